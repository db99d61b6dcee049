"""The Delta tables. Every write leaves the same rows when it is run twice or killed at any point."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from governance import catalog
from resources.lakehouse.checkpoints import CHANGED, INSERTED, read_checkpoints
from resources.lakehouse.days import DAY, contiguous, days_of, only_days
from resources.settings import Settings

ATTEMPTS = 8
# Commits between two Delta checkpoints: opening a table reads all commits since, and a stream makes one a second.
CHECKPOINT = "10"
# Columns that name the origin of a row.
PLACE = ("source", "position")


class TableMissingError(LookupError):
    """The table does not exist yet."""

    def __init__(self, table: str) -> None:
        super().__init__(f"table {table} does not exist yet: materialise it first")


class VersionGoneError(LookupError):
    """The log no longer holds a version of a table."""

    def __init__(self, table: str, version: int) -> None:
        super().__init__(f"table {table}: version {version} is no longer kept")


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
class Lakehouse:
    """Delta tables under one folder or bucket, at ``<uri>/<layer>/<table>``; a table's name is ``layer/table``.

    Attributes:
        uri: the folder or bucket.
        storage: options of the object store.
        streaming: the writer is a stream, whose changes make no day stale: see ``staleness.fingerprints``.
        pinned: versions of tables to read in place of the newest: see ``pinned_to``.
        indexes: folder of this machine for indexes of keys; None for one beside local tables.
    """

    uri: str
    storage: dict[str, str] = field(default_factory=dict)
    streaming: bool = False
    pinned: Mapping[str, int] = field(default_factory=dict)
    indexes: Path | None = None

    def location(self, table: str) -> str:
        """Return the address of a table."""
        return f"{self.uri}/{table}"

    def open(self, table: str) -> DeltaTable:
        """Open a table.

        Raises:
            TableMissingError: it does not exist. Any other error is raised as it is.
        """
        return self._open(table)

    def open_if_exists(self, table: str) -> DeltaTable | None:
        """Open a table if it exists. Reads the log once, where ``exists`` and ``open`` read it twice."""
        with suppress(TableMissingError):
            return self.open(table)
        return None

    def pinned_to(self, tables: Iterable[str]) -> "Lakehouse":
        """Return a view of the lakehouse in which some tables stay at their present versions."""
        pinned = {table: self.version(table) for table in tables}
        return replace(self, pinned=pinned)

    def exists(self, table: str) -> bool:
        """Return whether a table exists."""
        return DeltaTable.is_deltatable(self.location(table), storage_options=self.storage or None)

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""
        return [column.name for column in self.open(table).schema().fields]

    def version(self, table: str) -> int:
        """Return the version of a table that ``scan`` reads."""
        return self.pinned[table] if table in self.pinned else self.open(table).version()

    def scan(self, table: str, days: Sequence[str] | None = None, version: int | None = None) -> pl.LazyFrame:
        """Return a table's rows lazily; only those of ``days`` (ISO dates) if given."""
        version = self.pinned.get(table) if version is None else version
        rows = pl.scan_delta(self.open(table) if version is None else self.open_version(table, version))
        return rows if days is None else rows.filter(only_days(days))

    def read(self, table: str, days: Sequence[str] | None = None) -> pl.DataFrame:
        """Return a table's rows; only those of ``days`` if given."""
        return self.scan(table, days).collect()

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
        predicate = _on_days(days)

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

        return _retried(write)

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

        return _retried(write)

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
                predicate=_on_days(changed),
                schema_mode="merge",
                commit_properties=CommitProperties(app_transactions=transactions),
            )
            return delta.version()

        return _retried(write)

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

        return _retried(write)

    def drop_days(self, table: str, days: Sequence[str]) -> None:
        """Remove all rows of some days (ISO dates); no table made from this one becomes stale by that."""
        _retried(lambda: self.open(table).delete(_on_days(days)))

    def save_checkpoints(self, table: str, checkpoints: Mapping[str, int]) -> int:
        """Store checkpoints in a commit without rows; return the table's version."""

        def write() -> int:
            delta = self.open(table)
            no_rows = pl.scan_delta(delta).head(0).collect()
            properties = CommitProperties(app_transactions=_transactions(checkpoints))
            write_deltalake(delta, no_rows, mode="append", commit_properties=properties)
            return delta.version()

        return _retried(write)

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

        return _retried(write)

    def checkpoint(self, table: str, name: str) -> int | None:
        """Return one checkpoint of a table, or None: see ``resources.lakehouse.checkpoints``."""
        delta = self.open_if_exists(table)
        return None if delta is None else delta.transaction_version(name)

    def checkpoints(self, table: str) -> dict[str, int]:
        """Return all checkpoints of a table."""
        return read_checkpoints(self, table)

    def state(self, table: str) -> tuple[int, int]:
        """Return a table's version and its number of rows, from the log alone."""
        delta = self.open(table)
        return delta.version(), delta.count()

    def count(self, table: str) -> int:
        """Return a table's number of rows, from the log alone."""
        return self.open(table).count()

    def days(self, table: str) -> list[str]:
        """Return the days on which a table has rows, oldest first."""
        delta = self.open_if_exists(table)
        return [] if delta is None else sorted({str(part[DAY]) for part in delta.partitions() if DAY in part})

    def written(self, table: str) -> datetime:
        """Return when a table was last written (UTC)."""
        return datetime.fromtimestamp(self.open(table).history(1)[0]["timestamp"] / 1000, UTC)

    def _open(self, table: str) -> DeltaTable:
        try:
            return DeltaTable(self.location(table), storage_options=self.storage or None)
        except TableNotFoundError:
            raise TableMissingError(table) from None

    def open_version(self, table: str, version: int) -> DeltaTable:
        """Open a version of a table.

        Raises:
            TableMissingError: it does not exist.
            VersionGoneError: the log no longer holds that version.
        """
        delta = self._open(table)
        try:
            delta.load_as_version(version)
        except TableNotFoundError as error:
            raise VersionGoneError(table, version) from error
        return delta

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


def _on_days(days: Sequence[str]) -> str:
    """Return the condition in SQL that a row's day is among some days (ISO dates)."""
    if contiguous(days):
        return f"{DAY} >= '{min(days)}' AND {DAY} <= '{max(days)}'"
    return f"{DAY} IN ({', '.join(repr(str(day)) for day in days)})"


def _same(columns: Iterable[str]) -> str:
    """Return the condition that a stored and a new row are the same in some columns, where two nulls are."""
    return " AND ".join(f"(old.{name} IS NOT DISTINCT FROM new.{name})" for name in columns)


def _transactions(checkpoints: Mapping[str, int]) -> list[Transaction]:
    return [Transaction(name, number) for name, number in checkpoints.items()]


def _retried(write: Callable[[], Any]) -> Any:
    """Run a write again until its commit does not conflict; each attempt starts from the newest version."""
    for attempt in range(ATTEMPTS):
        try:
            return write()
        except CommitFailedError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311
    raise AssertionError("unreachable")
