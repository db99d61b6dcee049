"""The Delta tables. Every write leaves the same rows when it is run twice or killed at any point."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from governance import catalog
from resources.lakehouse.checkpoints import CHANGED, INSERTED
from resources.lakehouse.days import DAY, days_of, on_days_in_sql, only_days
from resources.lakehouse.reading import LakehouseReader
from resources.lakehouse.retries import retried
from resources.settings import Settings

# Commits between two Delta checkpoints: opening a table reads all commits since, and a stream makes one a second.
CHECKPOINT = "10"
# Columns that name the origin of a row.
PLACE = ("source", "position")


@dataclass(frozen=True)
class ReadRows:
    """The input of a table's new rows, to distinguish them from rows that a stream adds meanwhile.

    Attributes:
        version: the table's version when the input was read; None if it did not exist.
        places: source and position of each row of the input.
        key: columns that name a row of the table.
    """

    version: int | None
    places: pl.DataFrame
    key: tuple[str, ...]


@dataclass(frozen=True)
class Lakehouse(LakehouseReader):
    """Delta tables that are read and written.

    Attributes:
        streaming: the writer is a stream, whose changes make no day stale: see ``staleness.fingerprints``.
        indexes: folder of this machine for indexes of keys; None for one beside local tables.
    """

    streaming: bool = False
    indexes: Path | None = None

    def append_once(
        self, table: str, rows: pl.DataFrame, before: Mapping[str, int | None], after: Mapping[str, int]
    ) -> None:
        """Append rows and the checkpoints of their sources in one commit.

        Args:
            table: the table; created if need be.
            rows: the rows.
            before: checkpoint of each source when the reading began.
            after: checkpoint of each source at its end.

        Raises:
            CommitFailedError: another writer has moved a checkpoint meanwhile; nothing was appended.
        """
        delta = self._open_or_create(table, rows)
        if any(delta.transaction_version(source) != checkpoint for source, checkpoint in before.items()):
            raise CommitFailedError(f"{table}: another writer has read the same sources; run again")
        properties = CommitProperties(app_transactions=_transactions(after) + self._mark_changed(delta, rows))
        write_deltalake(delta, rows, mode="append", schema_mode="merge", commit_properties=properties)

    def replace_days(
        self,
        table: str,
        days: Sequence[str],
        rows: pl.DataFrame,
        *,
        only: str | None = None,
        checkpoints: Mapping[str, int] | None = None,
        read: ReadRows | None = None,
    ) -> int:
        """Replace the rows of some days in one commit.

        Args:
            table: the table; created if need be.
            days: ISO dates; every row must be of one of them.
            rows: the rows.
            only: SQL condition; rows for which it does not hold stay.
            checkpoints: checkpoints to store with the rows.
            read: input of the rows; rows added since from other places stay.

        Returns:
            The table's version.

        Raises:
            CommitFailedError: an added row has the key of one of ``rows``: run again.
        """
        predicate = on_days_in_sql(days)

        def write() -> int:
            delta = self._open_or_create(table, rows)
            added = rows.clear() if read is None else self._rows_added(table, delta.version(), read, rows, days, only)
            transactions = _transactions(checkpoints or {}) + self._mark_changed(delta, days)
            properties = CommitProperties(app_transactions=transactions)
            write_deltalake(
                delta,
                pl.concat([rows, added], how="diagonal_relaxed"),
                mode="overwrite",
                predicate=predicate if only is None else f"({predicate}) AND {only}",
                schema_mode="merge",
                commit_properties=properties,
            )
            return delta.version()

        return retried(write)

    def replace_all(self, table: str, rows: pl.DataFrame) -> int:
        """Replace all rows of a small table, unless they are the same; return the version."""
        self._open_or_create(table, rows)
        return self.rewrite(table, lambda _: rows)

    def rewrite(self, table: str, transform: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
        """Replace a small table's rows by a transformation of them, unless it changes none; return the version."""

        def write() -> int:
            delta = self.open(table)
            stored = pl.scan_delta(delta).collect()
            rows = transform(stored)
            if not stored.equals(rows):
                write_deltalake(delta, rows, mode="overwrite", schema_mode="overwrite")
            return delta.version()

        return retried(write)

    def merge_newest(self, table: str, days: Sequence[str], rows: pl.DataFrame, *, key: Sequence[str], by: str) -> int:
        """Merge some days' rows into a table that holds, over all days, the newest row of each key.

        A key moves to the day of its newest row. A stored row of these days whose key ``rows`` lacks is deleted.

        Args:
            table: the table; created if need be.
            days: ISO dates.
            rows: the newest row of each key that has rows on these days, in the source or in the table.
            key: columns that name a row.
            by: column that is greater the newer a row is.

        Returns:
            The table's version.
        """
        from resources.lakehouse.key_index import KeyIndex

        def write() -> int:
            delta = self._open_or_create(table, rows)
            index = KeyIndex(self, table, key)
            index.refresh()
            touched = sorted({*days, *days_of(rows), *index.days(rows)})
            others = pl.scan_delta(delta).filter(only_days(touched), ~only_days(days)).collect()
            both = rows.select(*key, by, DAY).join(
                others.select(*key, old=by, old_day=DAY), on=list(key), nulls_equal=True
            )
            # A row that stands on another day already is left out, so that its day does not count as changed.
            stands = (pl.col("old") == pl.col(by)) & (pl.col("old_day") == pl.col(DAY))
            stays = both.filter((pl.col("old") > pl.col(by)) | stands)
            new = rows.join(stays, on=list(key), how="anti", nulls_equal=True)
            left = others.join(new, on=list(key), how="semi", nulls_equal=True)
            changed = sorted({*days, *days_of(new), *days_of(left)})
            kept = others.filter(only_days(changed)).join(new, on=list(key), how="anti", nulls_equal=True)
            transactions = self._mark_changed(delta, {*days, *days_of(new)})
            write_deltalake(
                delta,
                pl.concat([kept, new], how="diagonal_relaxed"),
                mode="overwrite",
                predicate=on_days_in_sql(changed),
                schema_mode="merge",
                commit_properties=CommitProperties(app_transactions=transactions),
            )
            return delta.version()

        return retried(write)

    def remove(self, table: str, rows: pl.DataFrame, key: Sequence[str]) -> int:
        """Remove the rows with the keys of some rows; return the table's version.

        The log names the columns of the key and no value, which a deletion by condition would write into it.
        """
        columns = [*key, DAY] if DAY in rows.columns and DAY not in key else [*key]

        def write() -> int:
            delta = self.open(table)
            merge = delta.merge(
                rows.select(columns).unique(),
                _same(columns),
                target_alias="old",
                source_alias="new",
                commit_properties=CommitProperties(app_transactions=self._mark_changed(delta, rows)),
            )
            merge.when_matched_delete().execute()
            return delta.version()

        return retried(write)

    def drop_days(self, table: str, days: Sequence[str]) -> None:
        """Remove all rows of some days (ISO dates); no table made from this one becomes stale by that."""
        retried(lambda: self.open(table).delete(on_days_in_sql(days)))

    def save_checkpoints(self, table: str, checkpoints: Mapping[str, int]) -> int:
        """Store checkpoints in a commit without rows; return the table's version."""

        def write() -> int:
            delta = self.open(table)
            no_rows = pl.scan_delta(delta).head(0).collect()
            properties = CommitProperties(app_transactions=_transactions(checkpoints))
            write_deltalake(delta, no_rows, mode="append", commit_properties=properties)
            return delta.version()

        return retried(write)

    def insert_missing(
        self,
        table: str,
        rows: pl.DataFrame,
        key: Sequence[str],
        *,
        days: Sequence[str] | None = None,
        checkpoints: Mapping[str, int] | None = None,
        looked_at: int | None = None,
    ) -> int:
        """Append the rows whose key the table does not hold yet, and return their number.

        Args:
            table: the table; created if need be.
            rows: the rows; only the first of each key counts.
            key: columns that name a row.
            days: look for stored keys on these days only; in all of the table if None.
            checkpoints: checkpoints to store with the rows.
            looked_at: version of the table that holds none of the rows: the keys are not read if it is the newest.
        """
        rows = rows.unique(key, keep="first", maintain_order=True)

        def write() -> int:
            # The table is opened before its keys are read, so a rival's append in between fails this commit.
            delta = self._open_or_create(table, rows)
            missing = rows
            if delta.version() != looked_at:
                stored = pl.scan_delta(delta)
                stored = stored if days is None else stored.filter(only_days(days))
                missing = rows.join(stored.select(key).collect(), on=list(key), how="anti", nulls_equal=True)
            if missing.height or any(delta.transaction_version(s) != v for s, v in (checkpoints or {}).items()):
                transactions = _transactions({INSERTED: delta.version() + 1, **(checkpoints or {})})
                transactions += self._mark_changed(delta, missing)
                properties = CommitProperties(app_transactions=transactions)
                write_deltalake(delta, missing, mode="append", schema_mode="merge", commit_properties=properties)
            return missing.height

        return retried(write)

    def _mark_changed(self, delta: DeltaTable, changed: pl.DataFrame | Collection[str]) -> list[Transaction]:
        """Return a commit's checkpoints of the days that it changes, given as ISO dates or by its rows."""
        if self.streaming:
            return []
        if isinstance(changed, pl.DataFrame):
            changed = days_of(changed) if DAY in changed.columns else []
        return [Transaction(CHANGED.name(day), delta.version() + 1) for day in changed]

    def _rows_added(
        self, table: str, version: int, read: ReadRows, rows: pl.DataFrame, days: Sequence[str], only: str | None
    ) -> pl.DataFrame:
        """Return the rows that others have added since ``read``, up to a version of the table."""
        if read.version == version:
            return rows.clear()
        condition = only_days(days) if only is None else only_days(days) & pl.sql_expr(only)
        added = self.scan(table, version=version).filter(condition)
        if read.version is not None:
            before = self.scan(table, version=read.version).filter(condition)
            added = added.join(before.select(PLACE), on=PLACE, how="anti")
        added = added.collect().join(read.places, on=PLACE, how="anti")
        if added.join(rows, on=read.key, how="semi", nulls_equal=True).height:
            raise CommitFailedError(f"{table}: rows of the same key have been added meanwhile; run again")
        return added

    def _open_or_create(self, table: str, rows: pl.DataFrame) -> DeltaTable:
        if (delta := self.open_if_exists(table)) is not None:
            return delta
        schema = Schema.from_arrow(rows.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
        configuration = {"delta.checkpointInterval": CHECKPOINT}
        if (entry := catalog.tables().get(table)) is not None:
            indexed = [name for name in entry.statistics if name in rows.columns and name != DAY]
            configuration["delta.dataSkippingStatsColumns"] = ",".join(f"`{name}`" for name in indexed)
        return DeltaTable.create(
            self.location(table),
            schema,
            mode="ignore",
            partition_by=[DAY] if DAY in rows.columns else None,
            configuration=configuration,
            storage_options=self.storage or None,
        )


def lakehouse(settings: Settings, *, streaming: bool = False) -> Lakehouse:
    """Return the lakehouse that the settings name; for ``streaming`` see ``Lakehouse``."""
    if not settings.lakehouse_uri.startswith("s3:"):
        return Lakehouse(uri=settings.lakehouse_uri, streaming=streaming)
    storage = {"AWS_REGION": settings.aws_region}
    if settings.aws_endpoint_url:
        storage |= {"AWS_ENDPOINT_URL": settings.aws_endpoint_url}
        if settings.aws_endpoint_url.startswith("http://"):
            storage |= {"AWS_ALLOW_HTTP": "true"}
    uri, indexes = settings.lakehouse_uri, settings.key_indexes
    return Lakehouse(uri=uri, storage=storage, streaming=streaming, indexes=indexes)


def _same(columns: Iterable[str]) -> str:
    """Return the condition that a stored and a new row are the same in some columns, where two nulls are."""
    return " AND ".join(f"(old.{name} IS NOT DISTINCT FROM new.{name})" for name in columns)


def _transactions(checkpoints: Mapping[str, int]) -> list[Transaction]:
    return [Transaction(name, number) for name, number in checkpoints.items()]
