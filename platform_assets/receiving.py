"""Landed records to bronze rows: typed as declared, dated, and quarantined where they cannot be a row."""

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import chain, islice
from typing import Any

import dagster as dg
import polars as pl

from platform_assets.conventions import described
from platform_assets.publishing import QUARANTINE, account, accounted_for, quarantined
from resources.database import Table
from resources.lakehouse import DAY, Lakehouse
from resources.landing import LandedFile, Record, landed_files
from resources.polled import Polled, SourceError
from resources.pull import Pull
from resources.settings import settings

# Records that one commit holds at most; bounds memory, whatever the size of a file.
CHUNK = 50_000
MAX_COLUMNS = 300
# What is at the end of a file that is still being written: its position is read again when the file has grown.
UNFINISHED = ("corrupt_file", "unfinished_line")
# A clock may run ahead of ours by this much.
SKEW = timedelta(days=1)
COLUMN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
RESERVED = ("source", "position", "received_at", DAY)
TIME = pl.Datetime("us", "UTC")
ROW: dict[str, Any] = {"source": pl.String, "position": pl.Int64, "received_at": TIME, DAY: pl.Date}

INT64 = range(-(2**63), 2**63)
MAX_FLOAT = 1e300
# What JSON may hold for a column of each type.
ACCEPTED: dict[Any, Any] = {
    pl.String: str,
    pl.Boolean: bool,
    pl.Int64: int,
    pl.Float64: (int, float),
    pl.Binary: (bytes, str),
}


@dataclass(frozen=True)
class Received:
    """What a bronze table expects of its records.

    Attributes:
        table: ``bronze/<table>``.
        folder: landing folder that its records come from.
        owner: team that answers for it.
        columns: type of each known field.
        nested: fields of type String that hold an object or a list, kept as JSON.
        sql_table: table of the database that its records come from too, where there is a database.
        pulled: whether its records are pulled from the API too, where there is one.
        key: field that must not be null.
        event_time: field whose UTC day is the row's day; where it is missing, the day it was received.
        allowed: for a field, the values that are known.
    """

    table: str
    folder: str
    owner: str
    columns: Mapping[str, Any]
    key: str
    event_time: str
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    nested: frozenset[str] = frozenset()
    sql_table: str | None = None
    pulled: bool = False


class BrokenError(ValueError):
    """A record breaks the rule that the message names."""


def receive(
    records: Iterable[Record], expected: Received, stored: pl.Schema, source: str, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Turn records into bronze rows.

    Args:
        records: what a file held.
        expected: the table's declaration.
        stored: columns that the table has already; empty if it does not exist.
        source: where the records come from.
        now: when they were received (UTC).

    Returns:
        Rows, with one column for each field ever seen, and broken records with ``rule`` and ``raw``.
    """
    types: dict[str, Any] = {**stored, **expected.columns}
    rows: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    for record in records:
        place = {"source": source, "position": record.position, "received_at": now}
        try:
            if record.fields is None:
                raise BrokenError(record.broken)
            row = _typed(record.fields, expected, types)
            rows.append(row | place | {DAY: _day(row, record.fields, expected, now)})
        except (BrokenError, RecursionError) as error:
            rule = str(error) if isinstance(error, BrokenError) else "nested_too_deep"
            raw = record.raw if record.fields is None else _shown(record.fields)
            broken.append(place | {DAY: now.date(), "rule": rule, "raw": _text(raw or "")})
    types = {name: kind for name, kind in types.items() if name not in ROW}
    return (
        pl.DataFrame(rows, schema={**types, **ROW}, orient="row", strict=True),
        pl.DataFrame(broken, schema={"raw": pl.String, "rule": pl.String, **ROW}),
    )


def ingest(
    lakehouse: Lakehouse,
    expected: Received,
    files: Iterable[LandedFile],
    now: datetime,
    sources: Iterable[Polled] = (),
) -> dict[str, int]:
    """Append to a bronze table what its files, and then its other sources, hold beyond what has been read of them.

    A file that grew is read on from where the last reading ended; one that did not is not opened. How far a file
    or a source has been read is part of the commit that holds its rows.

    Returns:
        rows_in, rows_out, rows_quarantined, files.

    Raises:
        SourceError: a source does not answer, or says no; what was read before it stays.
        CommitFailedError: another writer has read the same sources meanwhile; what was read before it stays.
    """
    count = {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "files": 0}
    prepare(lakehouse, expected, now)
    polled = (group for source in sources for group in _polled(lakehouse, expected, source))
    for group in chain(_unread(lakehouse, expected.table, files), polled):
        rows, broken = append(lakehouse, expected, group, now)
        count["rows_in"] += sum(len(reading.records) for reading in group)
        count["files"] += sum(f"size:{reading.source}" in reading.reached for reading in group)
        count["rows_out"] += rows.height
        count["rows_quarantined"] += broken
    account(expected.table, count["rows_in"], count["rows_out"], count["rows_quarantined"])
    return count


def prepare(lakehouse: Lakehouse, expected: Received, now: datetime) -> None:
    """Create a bronze table, and quarantine, if nothing has yet."""
    rows, broken = receive([], expected, pl.Schema(), "", now)
    if not lakehouse.exists(expected.table):
        lakehouse.append_once(expected.table, rows, {}, {})
    lakehouse.insert_missing(QUARANTINE, quarantined(expected.table, broken), ["quarantine_id"], days=[str(now.date())])


@dataclass(frozen=True)
class Reading:
    """What has been read of one source.

    Attributes:
        source: names it in every row.
        records: what was read.
        started: where the reading began, under the names that the table keeps positions by; None for the beginning.
        reached: where it ended.
    """

    source: str
    records: list[Record]
    started: Mapping[str, int | None]
    reached: Mapping[str, int]


def append(
    lakehouse: Lakehouse, expected: Received, readings: Iterable[Reading], now: datetime
) -> tuple[pl.DataFrame, int]:
    """Append what was read to a bronze table, with how far, in one commit.

    Returns:
        The rows, and how many records were quarantined.

    Raises:
        CommitFailedError: another writer has read the same sources meanwhile; nothing was appended.
    """
    stored = pl.Schema(lakehouse.scan(expected.table).collect_schema())
    parts, started, reached = [], {}, {}
    for reading in readings:
        rows, broken = receive(reading.records, expected, stored, reading.source, now)
        account(expected.table, len(reading.records), rows.height, broken.height)
        stored = rows.schema
        parts.append((rows, quarantined(expected.table, broken)))
        started |= reading.started
        reached |= reading.reached
    rows, broken = (pl.concat(side, how="diagonal") for side in zip(*parts, strict=True))
    # Quarantine first: after a kill between the two, the records are read again and named the same.
    lakehouse.insert_missing(QUARANTINE, broken, ["quarantine_id"])
    lakehouse.append_once(expected.table, rows, started, reached)
    return rows, broken.height


def has_unread(lakehouse: Lakehouse, expected: Received) -> bool:
    """Say whether there is more than a bronze table has read: files that landed or grew, or rows of other sources.

    A source that does not answer is passed over with a warning, so that it does not hold up the others.
    """
    files = landed_files(settings().landing, expected.folder)
    delta = lakehouse.open(expected.table) if lakehouse.exists(expected.table) else None
    if any(delta is None or delta.transaction_version(f"size:{file.name}") != file.size for file in files):
        return True
    for source in sources_of(expected):
        try:
            offered = source.peek(delta.transaction_version if delta else lambda _: None)
        except SourceError as error:
            logging.getLogger(__name__).warning("%s: %s", expected.table, error)
            continue
        if _unstored(lakehouse, expected, source.name, offered) if delta else offered:
            return True
    return False


def sources_of(expected: Received) -> list[Polled]:
    """Return what a bronze table reads besides files, as the settings say."""
    known = settings()
    found: list[Polled] = []
    if expected.sql_table and known.postgres_dsn:
        table = Table(
            known.postgres_dsn,
            expected.sql_table,
            key=expected.key,
            dated_by=expected.event_time,
            chunk=CHUNK,
            max_bytes=known.max_record_bytes,
        )
        found.append(table)
    if expected.pulled and known.pull_url:
        seconds = 1 / known.pull_requests_per_second
        api = Pull(known.pull_url, known.pull_token, seconds_between=seconds, max_bytes=known.max_record_bytes)
        found.append(api)
    return found


def bronze_asset(doc: str | None, expected: Received) -> dg.AssetsDefinition:
    """Return the asset that ingests a bronze table from the landing folder and its other sources."""

    @dg.asset(**described(expected.table, doc, owner=expected.owner, daily=False))
    def bronze(lakehouse: Lakehouse) -> dg.MaterializeResult:
        started = time.perf_counter()
        before = lakehouse.count(expected.table) if lakehouse.exists(expected.table) else 0
        files = landed_files(settings().landing, expected.folder)
        count = ingest(lakehouse, expected, files, datetime.now(UTC), sources_of(expected))
        version, rows = lakehouse.version(expected.table), lakehouse.count(expected.table)
        seconds = round(time.perf_counter() - started, 3)
        return dg.MaterializeResult(
            metadata={
                **count,
                "dagster/row_count": rows,
                "seconds": seconds,
                "delta_version": version,
            },
            check_results=[
                accounted_for(rows - before == count["rows_out"], rows_before=before, rows_now=rows, **count)
            ],
        )

    return bronze


def _unread(lakehouse: Lakehouse, table: str, files: Iterable[LandedFile]) -> Iterator[list[Reading]]:
    """Yield groups of about CHUNK unread records, by file; a file that is read to its end with its size."""
    group: list[Reading] = []
    delta = lakehouse.open(table)
    waiting = 0
    for file in files:
        size, name = file.size, f"landing:{file.name}"
        if delta.transaction_version(f"size:{file.name}") == size:
            continue
        position = delta.transaction_version(name)
        unread = (r for r in file.read(file.path, settings().max_record_bytes) if r.position > (position or 0))
        while True:
            records = list(islice(unread, CHUNK))
            complete = len(records) < CHUNK
            ended = max([position or 0, *(r.position for r in records if r.broken not in UNFINISHED)])
            whole = {f"size:{file.name}": size} if complete else {}
            group.append(Reading(file.name, records, {name: position}, {name: ended, **whole}))
            position, waiting = ended, waiting + len(records)
            if waiting >= CHUNK:
                yield group
                group, waiting = [], 0
            if complete:
                break
    if group:
        yield group


def _polled(lakehouse: Lakehouse, expected: Received, source: Polled) -> Iterator[list[Reading]]:
    """Yield what a source gives that is new; of a rival that reads it at the same time, only one can append."""
    delta, commits = lakehouse.open(expected.table), f"{source.name}:commits"
    # It moves with every commit, which what the source keeps does not: a row may come late.
    count = delta.transaction_version(commits)
    kept: dict[str, int] = {}
    for records, reached in source.read(delta.transaction_version):
        unstored = _unstored(lakehouse, expected, source.name, records)
        moved = {
            name: value for name, value in reached.items() if value != kept.get(name, delta.transaction_version(name))
        }
        if unstored or moved:
            following = (count or 0) + 1
            yield [Reading(source.name, unstored, {commits: count}, {**reached, commits: following})]
            count, kept = following, reached


def _unstored(lakehouse: Lakehouse, expected: Received, source: str, records: Iterable[Record]) -> list[Record]:
    """Return records of a source that neither its table nor quarantine holds, each once."""
    unstored = {record.position: record for record in records}
    theirs = (pl.col("source") == source) & pl.col("position").is_in(list(unstored))
    days, of_table = _days(unstored.values(), expected), pl.col("table") == expected.table
    stored = lakehouse.scan(expected.table).filter(theirs if days is None else theirs & pl.col(DAY).is_in(days))
    broken = lakehouse.scan(QUARANTINE).filter(theirs & of_table)
    for position in pl.concat([stored.select("position"), broken.select("position")]).collect()["position"]:
        unstored.pop(position, None)
    return list(unstored.values())


def _days(records: Iterable[Record], expected: Received) -> list[date] | None:
    """Return the days that rows of these records may be of; None if it depends on when they were received."""
    days = set()
    for record in records:
        if record.fields is not None and expected.event_time not in record.fields:
            return None
        with suppress(BrokenError):
            days.add(_moment((record.fields or {}).get(expected.event_time), expected.event_time).date())
    return sorted(days)


def _typed(fields: Mapping[str, Any], expected: Received, types: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    for given, value in fields.items():
        name = f"payload_{given}" if given in RESERVED else given
        if value is None:
            continue
        if name in row:
            raise BrokenError("column_name")
        if name not in types:
            if not COLUMN.match(name) or name.lower() in {known.lower() for known in (*types, *seen)}:
                raise BrokenError("column_name")
            if len(types) + len(seen) >= MAX_COLUMNS:
                raise BrokenError("too_many_columns")
            seen[name] = _inferred(value)
        nested = name in expected.nested or name not in expected.columns
        row[name] = _converted(value, types.get(name, seen.get(name)), name, nested=nested)
    if row.get(expected.key) in (None, ""):
        raise BrokenError(f"null:{expected.key}")
    for name, values in expected.allowed.items():
        if row.get(name) is not None and row[name] not in values:
            raise BrokenError(f"unknown:{name}")
    types |= seen
    return row


def _inferred(value: object) -> pl.DataType:
    if isinstance(value, bool):
        return pl.Boolean()
    if isinstance(value, (int, float)):
        return pl.Float64() if isinstance(value, float) else pl.Int64()
    return pl.String()


def _converted(value: Any, kind: Any, name: str, *, nested: bool) -> Any:
    """Return a value as its column has it; a nested one as JSON, where the column may hold it."""
    if kind == TIME:
        return _moment(value, name)
    if kind == pl.String and nested and isinstance(value, (dict, list)):
        return _text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    accepted = next(of for known, of in ACCEPTED.items() if kind == known)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind != pl.Boolean):
        raise BrokenError(f"changed_type:{name}")
    if kind == pl.Int64 and value not in INT64:
        raise BrokenError(f"out_of_range:{name}")
    if kind == pl.Float64 and not abs(value) <= MAX_FLOAT:  # also if it is not a number
        raise BrokenError(f"out_of_range:{name}")
    if isinstance(value, str):
        return _text(value) if kind == pl.String else value.encode("utf-8", "replace")
    return float(value) if kind == pl.Float64 else value


def _moment(value: Any, name: str) -> datetime:
    """Read ISO 8601, or seconds or milliseconds since 1970; a time without a zone is UTC."""
    try:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise BrokenError(f"bad_timestamp:{name}") from None


def _day(row: Mapping[str, Any], fields: Mapping[str, Any], expected: Received, now: datetime) -> Any:
    if fields.get(expected.event_time) is None:
        if expected.event_time in fields:
            raise BrokenError(f"null:{expected.event_time}")
        return now.date()
    moment = row[expected.event_time]
    if moment > now + SKEW or moment.date() < settings().first_day:
        raise BrokenError(f"out_of_range:{expected.event_time}")
    return moment.date()


def _text(value: str) -> str:
    """Return a string that UTF-8 can hold: half a surrogate pair becomes a replacement character."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _shown(fields: Mapping[str, Any]) -> str:
    """Return a record as JSON; one that is nested too deep to be written again, as far as can be said."""
    try:
        return json.dumps(fields, default=_readable, ensure_ascii=False)
    except RecursionError:
        return f"an object of {len(fields)} fields, nested too deep to show"


def _readable(value: object) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
