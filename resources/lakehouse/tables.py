"""The Delta tables: a few verbs, each of which leaves the same rows when it is run twice or killed half-way."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from resources.lakehouse.checkpoints import CHANGED, COMPACTED, INSERTED, read_checkpoints
from resources.lakehouse.days import DAY, contiguous, days_of, only_days
from resources.settings import Settings

ATTEMPTS = 8
# Commits between two checkpoints: opening a table reads all commits since the last, and a stream makes one a second.
CHECKPOINT = "10"
# Where a row comes from.
PLACE = ("source", "position")


class TableMissingError(LookupError):
    """A table is read that nothing has written yet."""

    def __init__(self, table: str) -> None:
        super().__init__(f"table {table} does not exist yet: materialise it first")


class VersionGoneError(LookupError):
    """A version of a table is asked for of which the log says no more."""

    def __init__(self, table: str, version: int) -> None:
        super().__init__(f"table {table}: version {version} is no longer kept")


@dataclass(frozen=True)
class ReadRows:
    """What a table's new rows were made from, where a stream may add others meanwhile.

    Attributes:
        version: of the table when that was read; None if it did not exist.
        places: source and position of each row that was read.
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
        storage: options of the bucket's store.
        streaming: a stream writes, which takes what it has changed through the tables itself: see ``fingerprints``.
        pinned: versions of tables that are read whatever is written meanwhile: see ``pinned_to``.
    """

    uri: str
    storage: dict[str, str] = field(default_factory=dict)
    streaming: bool = False
    pinned: Mapping[str, int] = field(default_factory=dict)

    def location(self, table: str) -> str:
        """Return where a table is."""
        return f"{self.uri}/{table}"

    def open(self, table: str) -> DeltaTable:
        """Open a table.

        Raises:
            TableMissingError: it does not exist; any other fault is raised as it is.
        """
        return self._open(table)

    def open_if_exists(self, table: str) -> DeltaTable | None:
        """Open a table, if it exists: a look at its log, where ``exists`` and ``open`` are two."""
        with suppress(TableMissingError):
            return self.open(table)
        return None

    def pinned_to(self, tables: Iterable[str]) -> "Lakehouse":
        """Return the lakehouse in which the rows of some tables stay as they are now."""
        pinned = {table: self.version(table) for table in tables}
        return replace(self, pinned=pinned)

    def exists(self, table: str) -> bool:
        """Say whether a table has been written."""
        return DeltaTable.is_deltatable(self.location(table), storage_options=self.storage or None)

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""
        return [column.name for column in self.open(table).schema().fields]

    def version(self, table: str) -> int:
        """Return the version of a table whose rows are read."""
        return self.pinned[table] if table in self.pinned else self.open(table).version()

    def scan(self, table: str, days: Sequence[str] | None = None, version: int | None = None) -> pl.LazyFrame:
        """Return a table's rows, of some days only if ``days`` (ISO dates) is given."""
        version = self.pinned.get(table) if version is None else version
        rows = pl.scan_delta(self.open(table) if version is None else self.open_version(table, version))
        return rows if days is None else rows.filter(only_days(days))

    def read(self, table: str, days: Sequence[str] | None = None) -> pl.DataFrame:
        """Return a table's rows as a frame, of some days only if ``days`` is given."""
        return self.scan(table, days).collect()

    def append_once(
        self, table: str, rows: pl.DataFrame, started: Mapping[str, int | None], reached: Mapping[str, int]
    ) -> None:
        """Append rows together with the positions up to which their sources have now been read, in one commit.

        Args:
            table: the table; created if need be.
            rows: what was read.
            started: position of each source (see ``position``) when the reading began.
            reached: position of each source now.

        Raises:
            CommitFailedError: another writer has moved a position meanwhile; nothing was appended.
        """
        delta = self._created(table, rows)
        if any(delta.transaction_version(source) != checkpoint for source, checkpoint in started.items()):
            raise CommitFailedError(f"{table}: another writer has read the same sources; run again")
        carried = [Transaction(source, checkpoint) for source, checkpoint in reached.items()]
        carried += self._changed(delta, rows)
        properties = CommitProperties(app_transactions=carried)
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
        """Put rows in the place of the rows of some days, in one commit.

        Args:
            table: the table; created if need be.
            days: ISO dates; every row must be of one of them.
            rows: the rows.
            only: SQL condition; rows for which it does not hold stay.
            checkpoints: what ``checkpoints`` returned for the inputs, kept with the rows.
            read: what the rows were made from: rows that have been added since then from elsewhere stay.

        Returns:
            The table's version.

        Raises:
            CommitFailedError: one of those has the key of one of ``rows``: run again.
        """
        where = f"{DAY} >= '{min(days)}' AND {DAY} <= '{max(days)}'"
        if not contiguous(days):
            where = f"{DAY} IN ({', '.join(repr(str(day)) for day in days)})"

        def write() -> int:
            delta = self._created(table, rows)
            added = rows.clear() if read is None else self._added(table, delta.version(), read, rows, days, only)
            carried = [Transaction(s, v) for s, v in (checkpoints or {}).items()]
            properties = CommitProperties(app_transactions=carried + self._changed(delta, days))
            write_deltalake(
                delta,
                pl.concat([rows, added], how="diagonal_relaxed"),
                mode="overwrite",
                predicate=where if only is None else f"({where}) AND {only}",
                schema_mode="merge",
                commit_properties=properties,
            )
            return delta.version()

        return _retried(write)

    def replace_all(self, table: str, rows: pl.DataFrame) -> int:
        """Put rows in the place of all rows of a small table, unless they are the same; return the version."""
        self._created(table, rows)
        return self.rewrite(table, lambda _: rows)

    def rewrite(self, table: str, rewritten: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
        """Put what is made of a small table's rows in their place; rows that are added meanwhile stay."""

        def write() -> int:
            delta = self.open(table)
            stored = pl.scan_delta(delta).collect()
            rows = rewritten(stored)
            if not stored.equals(rows):
                write_deltalake(delta, rows, mode="overwrite", schema_mode="overwrite")
            return delta.version()

        return _retried(write)

    def keep_newest(self, table: str, days: Sequence[str], rows: pl.DataFrame, *, key: Sequence[str], by: str) -> int:
        """Put some days' rows into a table that keeps, of all days, the newest row of each key.

        A key moves to the day of its newest row; what the table has of these days and ``rows`` has not is removed.

        Args:
            table: the table; created if need be.
            days: ISO dates.
            rows: the newest row of each key that has rows on these days, in the source or in the table.
            key: columns that name a row.
            by: column that is greater the newer a row is.

        Returns:
            The table's version.
        """
        of_days = f"kept.{DAY} IN ({', '.join(f'DATE {str(day)!r}' for day in days)})"

        def write() -> int:
            delta = self._created(table, rows)
            # What already stands on another day as it is, is left alone: its day has not changed.
            named = [*key, by, DAY]
            stands = pl.scan_delta(delta).filter(~only_days(days)).select(named)
            fresh = rows.lazy().join(stands, on=named, how="anti", nulls_equal=True).collect()
            changed = self._changed(delta, {*days, *days_of(fresh)})
            merge = delta.merge(
                fresh,
                " AND ".join(f"(kept.{name} IS NOT DISTINCT FROM new.{name})" for name in key),
                target_alias="kept",
                source_alias="new",
                merge_schema=True,
                commit_properties=CommitProperties(app_transactions=changed),
            )
            merge = merge.when_matched_update_all(f"new.{by} >= kept.{by} OR {of_days}").when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(of_days).execute()
            return delta.version()

        return _retried(write)

    def keep_checkpoints(self, table: str, checkpoints: Mapping[str, int]) -> int:
        """Note from which state of its inputs (see ``checkpoints``) a table has been made; return its version."""

        def write() -> int:
            delta = self.open(table)
            nothing = pl.scan_delta(delta).head(0).collect()
            properties = CommitProperties(app_transactions=[Transaction(s, v) for s, v in checkpoints.items()])
            write_deltalake(delta, nothing, mode="append", commit_properties=properties)
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
        """Append the rows whose key the table does not hold yet, and return how many they were.

        Args:
            table: the table; created if need be.
            rows: rows, of which the first of each key counts.
            key: columns that name a row.
            days: look for stored keys in these days only; in all of the table if None.
            checkpoints: what ``checkpoints`` returned for the inputs, kept with the rows.
            looked_at: version of the table that has none of them: there is no look if it is still the newest.
        """
        rows = rows.unique(key, keep="first", maintain_order=True)

        def write() -> int:
            # The handle is opened before the look, so a rival's append in between fails this commit.
            delta = self._created(table, rows)
            missing = rows
            if delta.version() != looked_at:
                stored = pl.scan_delta(delta)
                stored = stored if days is None else stored.filter(only_days(days))
                missing = rows.join(stored.select(key).collect(), on=list(key), how="anti", nulls_equal=True)
            if missing.height or any(delta.transaction_version(s) != v for s, v in (checkpoints or {}).items()):
                carried = {INSERTED: delta.version() + 1, **(checkpoints or {})}
                transactions = [Transaction(s, v) for s, v in carried.items()] + self._changed(delta, missing)
                properties = CommitProperties(app_transactions=transactions)
                write_deltalake(delta, missing, mode="append", schema_mode="merge", commit_properties=properties)
            return missing.height

        return _retried(write)

    def compact(self, table: str, commits: int) -> None:
        """Put a table's small files together, if as many commits have been made since the last time."""
        delta = self.open(table)
        if delta.version() - (delta.transaction_version(COMPACTED) or 0) >= commits:
            done = CommitProperties(app_transactions=[Transaction(COMPACTED, delta.version())])
            with suppress(CommitFailedError):  # a rival has rewritten them meanwhile
                delta.optimize.compact(commit_properties=done)

    def checkpoint(self, table: str, name: str) -> int | None:
        """Return a number that a table keeps beside its rows, or None: see ``checkpoints``."""
        delta = self.open_if_exists(table)
        return None if delta is None else delta.transaction_version(name)

    def checkpoints(self, table: str) -> dict[str, int]:
        """Return all numbers that a table keeps beside its rows."""
        return read_checkpoints(self, table)

    def state(self, table: str) -> tuple[int, int]:
        """Return a table's version and how many rows it has, from its log alone."""
        delta = self.open(table)
        return delta.version(), delta.count()

    def count(self, table: str) -> int:
        """Return how many rows a table has, from its log alone."""
        return self.open(table).count()

    def days(self, table: str) -> list[str]:
        """Return the days of which a table has rows, oldest first."""
        delta = self.open_if_exists(table)
        return [] if delta is None else sorted({str(partition[DAY]) for partition in delta.partitions()})

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
            VersionGoneError: the log says no more of that version.
        """
        delta = self._open(table)
        try:
            delta.load_as_version(version)
        except TableNotFoundError as error:
            raise VersionGoneError(table, version) from error
        return delta

    def _changed(self, delta: DeltaTable, what: pl.DataFrame | Collection[str]) -> list[Transaction]:
        """Return what a commit notes of the days that it changes, given as ISO dates or by its rows."""
        if self.streaming:
            return []
        if isinstance(what, pl.DataFrame):
            what = days_of(what) if DAY in what.columns else []
        return [Transaction(CHANGED.name(day), delta.version() + 1) for day in what]

    def _added(
        self, table: str, now: int, read: ReadRows, rows: pl.DataFrame, days: Sequence[str], only: str | None
    ) -> pl.DataFrame:
        """Return rows that have been added since a version of a table from places that had not been read."""
        if read.version == now:
            return rows.clear()
        where = only_days(days) if only is None else only_days(days) & pl.sql_expr(only)
        added = self.scan(table, version=now).filter(where)
        if read.version is not None:
            before = self.scan(table, version=read.version).filter(where)
            added = added.join(before.select(PLACE), on=PLACE, how="anti")
        added = added.collect().join(read.places, on=PLACE, how="anti")
        if added.join(rows, on=read.key, how="semi", nulls_equal=True).height:
            raise CommitFailedError(f"{table}: rows of the same key have been added meanwhile; run again")
        return added

    def _created(self, table: str, rows: pl.DataFrame) -> DeltaTable:
        if (delta := self.open_if_exists(table)) is not None:
            return delta
        schema = Schema.from_arrow(rows.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
        return DeltaTable.create(
            self.location(table),
            schema,
            mode="ignore",
            partition_by=[DAY] if DAY in rows.columns else None,
            configuration={"delta.checkpointInterval": CHECKPOINT},
            storage_options=self.storage or None,
        )


def lakehouse(settings: Settings, *, streaming: bool = False) -> Lakehouse:
    """Return the lakehouse that the settings name; ``streaming`` as there."""
    if not settings.lakehouse_uri.startswith("s3:"):
        return Lakehouse(uri=settings.lakehouse_uri, streaming=streaming)
    storage = {"AWS_REGION": settings.aws_region}
    if settings.aws_endpoint_url:
        storage |= {"AWS_ENDPOINT_URL": settings.aws_endpoint_url}
        if settings.aws_endpoint_url.startswith("http://"):
            storage |= {"AWS_ALLOW_HTTP": "true"}
    return Lakehouse(uri=settings.lakehouse_uri, storage=storage, streaming=streaming)


def _retried(write: Callable[[], Any]) -> Any:
    """Run a write whose every attempt starts from the table as it then is, until its commit is not in conflict."""
    for attempt in range(ATTEMPTS):
        try:
            return write()
        except CommitFailedError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311
    raise AssertionError("unreachable")
