"""The Delta tables: a few verbs, each of which leaves the same rows when it is run twice or killed half-way."""

import hashlib
import json
import random
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING, Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from resources.lakehouse.checkpoints import CHANGED, COMPACTED, INSERTED, INVALIDATED, made_from
from resources.settings import Settings

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem

DAY = "event_date"
ATTEMPTS = 8
# Commits between two checkpoints: opening a table reads all commits since the last, and a stream makes one a second.
CHECKPOINT = "10"
# Where a row comes from.
PLACE = ("source", "position")
# Positions that are asked for one by one, each of which reads the log; more are read at once.
FEW = 10


class TableMissingError(LookupError):
    """A table is read that nothing has written yet."""

    def __init__(self, table: str) -> None:
        super().__init__(f"table {table} does not exist yet: materialise it first")


class VersionGoneError(LookupError):
    """A version of a table is asked for of which the log says no more."""

    def __init__(self, table: str, version: int) -> None:
        super().__init__(f"table {table}: version {version} is no longer kept")


@dataclass(frozen=True)
class Seen:
    """What a table's rows were made from, where a stream may add others meanwhile.

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
        return self._opened_now(table)

    def found(self, table: str) -> DeltaTable | None:
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
        rows = pl.scan_delta(self.open(table) if version is None else self._at(table, version))
        return rows if days is None else rows.filter(only_days(days))

    def read(self, table: str, days: Sequence[str] | None = None) -> pl.DataFrame:
        """Return a table's rows as a frame, of some days only if ``days`` is given."""
        return self.scan(table, days).collect()

    def dataset(self, table: str) -> "Dataset":
        """Return a table's rows as a dataset, of which a filter by day opens the files of these days only."""
        import pyarrow as pa
        from pyarrow.dataset import FileSystemDataset, ParquetFileFormat
        from pyarrow.dataset import field as column

        delta, parquet = self.open(table), ParquetFileFormat()
        system, folder = self._file(table)
        files = pl.DataFrame(delta.get_add_actions(flatten=True)).to_dicts()
        day, fragments = f"partition.{DAY}", []
        for file in files:
            of_day = column(DAY) == file[day] if day in file else None
            fragments.append(parquet.make_fragment(f"{folder}/{file['path']}", system, partition_expression=of_day))
        return FileSystemDataset(fragments, pa.schema(delta.schema().to_arrow(as_large_types=True)), parquet, system)

    def rows_of_new_files(
        self, table: str, known: Container[str], columns: Sequence[str]
    ) -> tuple[pl.DataFrame, set[str]]:
        """Return some columns of the rows in those files of a table that are not known yet, and all files' names.

        The day is none of these columns: files do not hold it.
        """
        files = self.open(table).file_uris()
        fresh = [file for file in files if file not in known]
        stored = pl.Schema({name: kind for name, kind in self.scan(table).collect_schema().items() if name != DAY})
        if not fresh:
            return pl.DataFrame(schema={name: stored[name] for name in columns}), set(files)
        rows = pl.scan_parquet(
            fresh,
            schema=stored,
            missing_columns="insert",
            hive_partitioning=False,
            storage_options=self.storage or None,
        )
        return rows.select(columns).collect(), set(files)

    def rows_between(
        self, table: str, before: int | None, after: int, *, key: Sequence[str], columns: Sequence[str]
    ) -> pl.DataFrame:
        """Return the rows of a version of a table whose key an earlier version does not hold.

        Reads the days that have been changed between the two; all of them if ``before`` is None.

        Args:
            table: the table.
            before: the earlier version.
            after: the version.
            key: columns that name a row.
            columns: those that are wanted besides.

        Raises:
            VersionGoneError: the log no longer knows one of the versions.
        """
        now, then = self._at(table, after), None if before is None else self._at(table, before)
        days = _days_changed(then, now)
        found = pl.scan_delta(now).select(*key, *columns, DAY)
        found = (found.filter(only_days(days)) if days else found.head(0)).drop(DAY)
        if days and then is not None:
            found = found.join(pl.scan_delta(then).filter(only_days(days)).select(key), on=list(key), how="anti")
        return found.collect()

    def rows_changed(self, table: str, before: int | None, columns: Sequence[str]) -> pl.DataFrame:
        """Return the values of some columns that rows of a table have now and had not in an earlier version, or had.

        Reads the days that have been changed since; all of them if ``before`` is None or no longer known.
        """
        now, then = self.open(table), None
        if before is not None:
            with suppress(VersionGoneError):
                then = self._at(table, before)
        days = _days_changed(then, now)
        types = {name: kind for name, kind in pl.scan_delta(now).collect_schema().items() if name in columns}
        sides = [_rows_of(delta, types, days) for delta in (now, then)]
        there, gone = (
            one.join(other, on=list(types), how="anti", nulls_equal=True) for one, other in permutations(sides)
        )
        return pl.concat([there, gone])

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
        delta, now = self._created(table, rows), time.time_ns() // 10**6
        if len(started) > FEW:
            kept = {source: position for source, (position, _) in self.positions(table).items()}
        else:
            kept = {source: delta.transaction_version(source) for source in started}
        if any(kept.get(source) != position for source, position in started.items()):
            raise CommitFailedError(f"{table}: another writer has read the same sources; run again")
        carried = [Transaction(s, p, now) for s, p in reached.items()] + self._changed(delta, rows)
        properties = CommitProperties(app_transactions=carried)
        write_deltalake(delta, rows, mode="append", schema_mode="merge", commit_properties=properties)

    def replace_days(
        self,
        table: str,
        days: Sequence[str],
        rows: pl.DataFrame,
        *,
        only: str | None = None,
        marks: Mapping[str, int] | None = None,
        seen: Seen | None = None,
    ) -> int:
        """Put rows in the place of the rows of some days, in one commit.

        Args:
            table: the table; created if need be.
            days: ISO dates; every row must be of one of them.
            rows: the rows.
            only: SQL condition; rows for which it does not hold stay.
            marks: what ``marks`` returned for the inputs, kept with the rows.
            seen: what the rows were made from: rows that have been added since then from elsewhere stay.

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
            added = rows.clear() if seen is None else self._added(table, delta.version(), seen, rows, days, only)
            carried = [Transaction(s, v) for s, v in (marks or {}).items()]
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
        delta = self._created(table, rows)
        if not pl.scan_delta(delta).collect().equals(rows):
            write_deltalake(delta, rows, mode="overwrite", schema_mode="overwrite")
        return delta.version()

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

    def mark(self, table: str, marks: Mapping[str, int]) -> int:
        """Note from which state of its inputs (see ``marks``) a table has been made; return its version."""

        def write() -> int:
            delta = self.open(table)
            nothing = pl.scan_delta(delta).head(0).collect()
            properties = CommitProperties(app_transactions=[Transaction(s, v) for s, v in marks.items()])
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
        marks: Mapping[str, int] | None = None,
        looked_at: int | None = None,
    ) -> int:
        """Append the rows whose key the table does not hold yet, and return how many they were.

        Args:
            table: the table; created if need be.
            rows: rows, of which the first of each key counts.
            key: columns that name a row.
            days: look for stored keys in these days only; in all of the table if None.
            marks: what ``marks`` returned for the inputs, kept with the rows.
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
            if missing.height or any(delta.transaction_version(s) != v for s, v in (marks or {}).items()):
                carried = {INSERTED: delta.version() + 1, **(marks or {})}
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

    def position(self, table: str, source: str) -> int | None:
        """Return up to where a source has been read into a table, or None."""
        delta = self.found(table)
        return None if delta is None else delta.transaction_version(source)

    def positions(self, table: str) -> dict[str, tuple[int, int]]:
        """Return each source's position (see ``position``), and the time of it: milliseconds since 1970, or 0.

        Reads the log once, however many sources there are.
        """
        from pyarrow.fs import FileType
        from pyarrow.parquet import ParquetFile

        kept: dict[str, tuple[int, int]] = {}
        delta = self.found(table)
        if delta is None:
            return kept
        version, checkpoint = self.pinned.get(table, delta.version()), -1
        system, log = self._file(f"{table}/_delta_log")
        if system.get_file_info(f"{log}/_last_checkpoint").type == FileType.File:
            with system.open_input_stream(f"{log}/_last_checkpoint") as file:
                checkpoint = json.loads(file.read())["version"]
            with system.open_input_file(f"{log}/{checkpoint:020}.checkpoint.parquet") as file:
                found = ParquetFile(file).read(["txn"])
            rows = pl.Series(found["txn"]).drop_nulls().struct.unnest().select("appId", "version", "lastUpdated")
            kept = {source: (position, at or 0) for source, position, at in rows.rows()}
        for number in range(checkpoint + 1, version + 1):
            with system.open_input_stream(f"{log}/{number:020}.json") as file:
                actions = [json.loads(line) for line in file.read().splitlines()]
            changed = [action["txn"] for action in actions if "txn" in action]
            kept |= {one["appId"]: (one["version"], one.get("lastUpdated") or 0) for one in changed}
        return kept

    def state(self, table: str) -> tuple[int, int]:
        """Return a table's version and how many rows it has, from its log alone."""
        delta = self.open(table)
        return delta.version(), delta.count()

    def count(self, table: str) -> int:
        """Return how many rows a table has, from its log alone."""
        return self.open(table).count()

    def days(self, table: str) -> list[str]:
        """Return the days of which a table has rows, oldest first."""
        delta = self.found(table)
        return [] if delta is None else sorted({str(partition[DAY]) for partition in delta.partitions()})

    def changed(self, table: str) -> dict[str, int]:
        """Return the version at which each day of a table was last changed other than by a stream."""
        return CHANGED.among(self.positions(table))

    def written(self, table: str) -> datetime:
        """Return when a table was last written (UTC)."""
        return datetime.fromtimestamp(self.open(table).history(1)[0]["timestamp"] / 1000, UTC)

    def days_written(self, table: str, since: datetime) -> list[str]:
        """Return the days of which a table has files that were written since a moment, oldest first."""
        files = pl.DataFrame(self.open(table).get_add_actions(flatten=True))
        written = pl.col("modification_time") >= int(since.timestamp() * 1000)
        return sorted({str(day) for day in files.filter(written)[f"partition.{DAY}"]}) if files.height else []

    def fingerprints(self, inputs: Iterable[str], *, streamed: bool = False) -> dict[str, int]:
        """Return for each day a number that changes whenever one of the inputs' files of that day changes.

        Costs one look at each table's log, and no reading of data.

        Args:
            inputs: the tables.
            streamed: what a stream has changed does not count, but that there is such a day: it takes that through
                the tables itself.
        """
        changes: dict[str, list[str]] = {}
        for table in sorted(inputs):
            if (delta := self.found(table)) is None:
                continue
            if streamed:
                changes = {str(partition[DAY]): [] for partition in delta.partitions()} | changes
                found = [(f"{version}", day) for day, version in self.changed(table).items()]
            else:
                files = pl.DataFrame(delta.get_add_actions(flatten=True))
                found = files.select("path", pl.col(f"partition.{DAY}").cast(pl.String)).rows()
            for change, day in found:
                changes.setdefault(day, []).append(f"{table}:{change}")
        return {day: fingerprint(sorted(some)) for day, some in changes.items()}

    def marks(
        self, table: str, inputs: Sequence[str], days: Sequence[str], made_by: str = "inputs", *, streamed: bool = False
    ) -> dict[str, int]:
        """Return what a table keeps with its rows to say which state of its inputs they were made from, and by what."""
        found = self._states(table, inputs, streamed=streamed)
        return {made_from(made_by, day): found.get(day, 0) for day in days} if inputs else {}

    def stale_days(
        self, table: str, inputs: Sequence[str], made_by: str = "inputs", *, streamed: bool = False
    ) -> list[str]:
        """Return the days of which a table has not been made from its inputs as they are now, oldest first."""
        made, found = self.positions(table), self._states(table, inputs, streamed=streamed)
        return sorted(day for day, state in found.items() if made.get(made_from(made_by, day), (None, 0))[0] != state)

    def invalidate(self, table: str, days: Iterable[str], positions: Mapping[str, int]) -> None:
        """Have days of a table be stale until they are made again, and note up to where that has been looked into."""
        version = self.open(table).version() + 1
        self.mark(table, {INVALIDATED.name(day): version for day in days} | {**positions})

    def _states(self, table: str, inputs: Iterable[str], *, streamed: bool) -> dict[str, int]:
        """Return for each day a number that changes with a table's inputs, and whenever the day is invalidated."""
        found = self.fingerprints(inputs, streamed=streamed)
        due = INVALIDATED.among(self.positions(table))
        return found | {day: fingerprint([str(found.get(day, 0)), str(at)]) for day, at in due.items()}

    def write_file(self, name: str, content: bytes) -> str:
        """Write a file that is no table (a report, say) below the lakehouse, and return where it is."""
        system, path = self._file(name)
        if "://" not in self.uri:
            system.create_dir(path.rpartition("/")[0], recursive=True)
        with system.open_output_stream(path) as stream:
            stream.write(content)
        return f"{self.uri}/{name}"

    def _opened_now(self, table: str) -> DeltaTable:
        try:
            return DeltaTable(self.location(table), storage_options=self.storage or None)
        except TableNotFoundError:
            raise TableMissingError(table) from None

    def _at(self, table: str, version: int) -> DeltaTable:
        """Open a version of a table.

        Raises:
            TableMissingError: it does not exist.
            VersionGoneError: the log says no more of that version.
        """
        delta = self._opened_now(table)
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
        self, table: str, now: int, seen: Seen, rows: pl.DataFrame, days: Sequence[str], only: str | None
    ) -> pl.DataFrame:
        """Return rows that have been added since a version of a table from places that had not been seen."""
        if seen.version == now:
            return rows.clear()
        where = only_days(days) if only is None else only_days(days) & pl.sql_expr(only)
        added = self.scan(table, version=now).filter(where)
        if seen.version is not None:
            before = self.scan(table, version=seen.version).filter(where)
            added = added.join(before.select(PLACE), on=PLACE, how="anti")
        added = added.collect().join(seen.places, on=PLACE, how="anti")
        if added.join(rows, on=seen.key, how="semi", nulls_equal=True).height:
            raise CommitFailedError(f"{table}: rows of the same key have been added meanwhile; run again")
        return added

    def _file(self, name: str) -> "tuple[FileSystem, str]":
        """Return the file system that the lakehouse is on, and the path of a file or folder there."""
        from pyarrow import fs

        if "://" not in self.uri:
            return fs.LocalFileSystem(), f"{self.uri}/{name}"
        scheme, _, host = self.storage.get("AWS_ENDPOINT_URL", "").rpartition("://")
        options = {"endpoint_override": host, "scheme": scheme} if host else {}
        return fs.S3FileSystem(
            region=self.storage.get("AWS_REGION"), **options
        ), f"{self.uri.split('://', 1)[1]}/{name}"

    def _created(self, table: str, rows: pl.DataFrame) -> DeltaTable:
        if (delta := self.found(table)) is not None:
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


def fingerprint(parts: Iterable[str]) -> int:
    """Return a positive 62-bit number that names a sequence of strings."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _days_changed(before: DeltaTable | None, after: DeltaTable) -> list[str]:
    """Return the days whose files are not the same in two versions of a table; all of the later one if it is alone."""
    known, files = (set() if one is None else {*_days_of_files(one).items()} for one in (before, after))
    return sorted({str(day) for _, day in known ^ files})


def _days_of_files(delta: DeltaTable) -> dict[str, date]:
    """Return the day of each file of a table."""
    return dict(pl.DataFrame(delta.get_add_actions(flatten=True)).select("path", f"partition.{DAY}").iter_rows())


def days_of(rows: pl.DataFrame) -> list[str]:
    """Return the days that rows are of, as ISO dates, oldest first."""
    return rows[DAY].unique().sort().cast(pl.String).to_list()


def _rows_of(delta: DeltaTable | None, types: Mapping[str, Any], days: Sequence[str]) -> pl.DataFrame:
    """Return the distinct values of some columns of a table on some days; null where it has no such column."""
    if delta is None or not days:
        return pl.DataFrame(schema=types)
    rows = pl.scan_delta(delta).filter(only_days(days))
    stored = rows.collect_schema()
    columns = (pl.col(name) if name in stored else pl.lit(None).alias(name) for name in types)
    return rows.select(columns).cast(dict(types)).unique().collect()


def contiguous(days: Sequence[str]) -> bool:
    """Say whether days follow one another without a gap."""
    return date.fromisoformat(max(days)) - date.fromisoformat(min(days)) == timedelta(days=len(set(days)) - 1)


def only_days(days: Sequence[str]) -> pl.Expr:
    """Return the condition that a row is of one of some days (ISO dates)."""
    if days and contiguous(days):
        return pl.col(DAY).is_between(date.fromisoformat(min(days)), date.fromisoformat(max(days)))
    return pl.col(DAY).is_in([date.fromisoformat(day) for day in days])


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
