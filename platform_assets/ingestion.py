"""What has come to bronze rows: files, topics, databases and interfaces, each record read once."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path

import dagster as dg
import polars as pl

from platform_assets.conventions import described
from platform_assets.parsing import BrokenError, SourceSchema, moment_of, parse_records
from platform_assets.publishing import QUARANTINE, quarantined, reconcile, reconciled, shown
from resources.lakehouse.checkpoints import COMMITS, LEDGER, LISTED
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.landing.bucket import ALL_NAMES, ATTEMPTS, FULL_LISTING_MS, Bucket, likely_ranges
from resources.landing.budgets import CHUNK, CHUNK_BYTES
from resources.landing.folders import landed_files
from resources.landing.ledger import Ledger, Progress
from resources.landing.readers import REPLACED
from resources.landing.records import Digest, LandingFile, Record, ReplacedError
from resources.settings import settings
from resources.sources.database import Table
from resources.sources.http import PagedApi
from resources.sources.incremental import IncrementalSource, SourceError

# What is at the end of a file that is still being written: its position is read again when the file has grown.
UNFINISHED = ("corrupt_file", "unfinished_line")
# A file that was rewritten is read from its beginning as another generation, whose positions continue above the old
# ones: a position is a generation, and in so many bits the place of the record.
PLACE_BITS = 40


def ingest(
    lakehouse: Lakehouse,
    expected: SourceSchema,
    files: Iterable[LandingFile],
    now: datetime,
    sources: Iterable[IncrementalSource] = (),
    listed: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Append to a bronze table what its files, and then its other sources, hold beyond what has been read of them.

    A file that grew is read on from where the last reading ended, one that was rewritten from its beginning, and one
    that was not written is not opened. What a commit holds counts as read with the commit.

    Args:
        lakehouse: where the table is.
        expected: the table's declaration.
        files: files, among them those that hold more than has been read.
        now: when they are received (UTC).
        sources: what the table reads besides files.
        listed: what to keep once all the files have been read (see ``landed``).

    Returns:
        rows_in, rows_out, rows_quarantined, files.

    Raises:
        SourceError: a source does not answer, or says no; what was read before it stays, and the others are read.
        CommitFailedError: another writer has read the same sources meanwhile; what was read before it stays.
    """
    count = {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "files": 0}
    faults: list[SourceError] = []
    prepare(lakehouse, expected, now)
    polled = (_polled(lakehouse, expected, source) for source in sources)
    ledger = Ledger(lakehouse, expected.table)
    for groups in (_unread(ledger, files, listed or {}), *polled):
        try:
            for group in groups:
                rows, broken = append(lakehouse, expected, group, now, ledger)
                count["rows_in"] += sum(len(one.records) for one in group)
                count["files"] += sum(one.progress is not None and one.progress.complete for one in group)
                count["rows_out"] += rows.height
                count["rows_quarantined"] += broken
        except SourceError as fault:
            faults.append(fault)
    reconcile(expected.table, count["rows_in"], count["rows_out"], count["rows_quarantined"])
    if faults:
        raise faults[0]
    return count


def prepare(lakehouse: Lakehouse, expected: SourceSchema, now: datetime) -> None:
    """Create a bronze table, and quarantine, if nothing has yet."""
    rows, broken = parse_records([], expected, "", now)
    if not lakehouse.exists(expected.table):
        lakehouse.append_once(expected.table, rows, {}, {})
    if not lakehouse.exists(QUARANTINE):
        lakehouse.insert_missing(QUARANTINE, quarantined(expected.table, shown(broken)), ["quarantine_id"])


@dataclass(frozen=True)
class Increment:
    """What a source holds beyond what had been read of it.

    Attributes:
        source: names it in every row.
        records: what was read.
        before: the bronze table's checkpoints of the source when the reading began; None for none.
        after: what they become.
        progress: how far the source has now been read, if it is a file.
    """

    source: str
    records: list[Record]
    before: Mapping[str, int | None] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)
    progress: Progress | None = None


def append(
    lakehouse: Lakehouse,
    expected: SourceSchema,
    increments: Iterable[Increment],
    now: datetime,
    ledger: Ledger | None = None,
) -> tuple[pl.DataFrame, int]:
    """Append what was read to a bronze table, with how far, in one commit.

    Args:
        lakehouse: where the table is.
        expected: the table's declaration.
        increments: what was read.
        now: when it was received (UTC).
        ledger: where the progress of files is kept.

    Returns:
        The rows, and how many records were quarantined.

    Raises:
        CommitFailedError: another writer has read the same sources meanwhile; nothing was appended.
    """
    parts = []
    before: dict[str, int | None] = {}
    after: dict[str, int] = {}
    progress: dict[str, Progress] = {}
    for one in increments:
        rows, broken = parse_records(one.records, expected, one.source, now, settings().first_day)
        reconcile(expected.table, len(one.records), rows.height, broken.height)
        parts.append((rows, quarantined(expected.table, shown(broken))))
        before |= one.before
        after |= one.after
        if one.progress is not None:
            progress[one.source] = one.progress
    rows, broken = (pl.concat(side, how="diagonal") for side in zip(*parts, strict=True))
    if ledger is not None and progress:
        before[LEDGER], after[LEDGER] = ledger.plan(progress)
    # Quarantine first: after a kill between the two, the records are read again and named the same.
    if broken.height:
        lakehouse.insert_missing(QUARANTINE, broken, ["quarantine_id"])
    lakehouse.append_once(expected.table, rows, before, after)
    if ledger is not None and progress:
        ledger.settle(progress, after[LEDGER])
    return rows, broken.height


def has_unread(lakehouse: Lakehouse, expected: SourceSchema) -> bool:
    """Say whether there is more than a bronze table has read: files that landed or changed, or rows of other sources.

    A table that does not exist must come to be, also without files: others read it. A source that does not answer is
    passed over with a warning, so that it does not hold up the others.
    """
    if not lakehouse.exists(expected.table):
        return True
    try:
        files, due = landed(lakehouse, expected, peek=True)
        read = Ledger(lakehouse, expected.table).files
        if any(_has_changed(file, read) for file in files) or due:
            return True
    except SourceError as error:
        _warn(expected, error)
    delta = lakehouse.open(expected.table)
    for source in sources_of(expected):
        try:
            offered = source.peek(delta.transaction_version)
        except SourceError as error:
            _warn(expected, error)
            continue
        if _unstored(lakehouse, expected, source.name, offered):
            return True
    return False


def _warn(expected: SourceSchema, error: SourceError) -> None:
    logging.getLogger(__name__).warning("%s: %s", expected.table, error)


def landed(
    lakehouse: Lakehouse, expected: SourceSchema, *, peek: bool = False
) -> tuple[Iterable[LandingFile], dict[str, int]]:
    """Return the files of a table's folder in which there may be more than has been read.

    Args:
        lakehouse: where the table is.
        expected: the table's declaration.
        peek: look where new files of a bucket are likely only, also if everything must be looked at again.

    Returns:
        Files, and what to keep once they have been read: when everything in a bucket was looked at, if that is due.
    """
    place, folder = settings().landing, expected.folder
    if isinstance(place, Path):
        return landed_files(place, folder), {}
    read = {file: progress.read_at for file, progress in Ledger(lakehouse, expected.table).files.items()}
    likely = likely_ranges({file: at for file, at in read.items() if file.startswith(f"{folder}/")})
    name, now = LISTED.name(place), time.time_ns() // 10**6
    listed = lakehouse.checkpoint(expected.table, name)
    due = listed is None or (likely != ALL_NAMES and now - listed >= FULL_LISTING_MS)
    bucket = Bucket(place, settings(), attempts=1 if peek else ATTEMPTS)
    return bucket.files(folder, ALL_NAMES if due and not peek else likely), {name: now} if due else {}


def sources_of(expected: SourceSchema) -> list[IncrementalSource]:
    """Return what a bronze table reads besides files, as the settings say."""
    known = settings()
    found: list[IncrementalSource] = []
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
        api = PagedApi(known.pull_url, known.pull_token, seconds_between=seconds, max_bytes=known.max_record_bytes)
        found.append(api)
    return found


def bronze_asset(doc: str | None, expected: SourceSchema) -> dg.AssetsDefinition:
    """Return the asset that ingests a bronze table from the landing folder and its other sources."""

    @dg.asset(**described(expected.table, doc, daily=False))
    def bronze(lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
        started = time.perf_counter()
        before = lakehouse.count(expected.table) if lakehouse.exists(expected.table) else 0
        files, listed = landed(lakehouse, expected)
        count = ingest(lakehouse, expected, files, datetime.now(UTC), sources_of(expected), listed)
        version, rows = lakehouse.state(expected.table)
        seconds = round(time.perf_counter() - started, 3)
        return dg.MaterializeResult(
            metadata={
                **count,
                "dagster/row_count": rows,
                "seconds": seconds,
                "delta_version": version,
            },
            check_results=[reconciled(rows - before == count["rows_out"], rows_before=before, rows_now=rows, **count)],
        )

    return bronze


def _unread(ledger: Ledger, files: Iterable[LandingFile], listed: Mapping[str, int]) -> Iterator[list[Increment]]:
    """Yield groups of what is unread, by file, each within the budgets; at the end what to keep of the listing."""
    group: list[Increment] = []
    records = size = 0
    try:
        for file in (one for one in files if _has_changed(one, ledger.files)):
            with suppress(ReplacedError):
                for increment, more in _increments(file, ledger.files.get(file.name)):
                    if group and (records + len(increment.records) > CHUNK or size + more > CHUNK_BYTES):
                        yield group
                        group, records, size = [], 0, 0
                    group.append(increment)
                    records, size = records + len(increment.records), size + more
                    if records >= CHUNK or size >= CHUNK_BYTES:
                        yield group
                        group, records, size = [], 0, 0
    except SourceError:
        if group:
            yield group
        raise
    if listed:
        group.append(Increment("", [], after=listed))
    if group:
        yield group


def _has_changed(file: LandingFile, read: Mapping[str, Progress]) -> bool:
    """Say whether a file has been written since it was read to its end; one that is gone has not."""
    progress = read.get(file.name)
    try:
        return progress is None or not progress.complete or progress.state != file.state
    except ReplacedError:
        return False


def _increments(file: LandingFile, read: Progress | None) -> Iterator[tuple[Increment, int]]:
    """Yield what is unread of a file, with its bytes, as much at a time as one commit may hold."""
    state, now = file.state, datetime.now(UTC)
    records = file.records(settings().max_record_bytes)
    first = list(islice(records, 1))
    if read and read.position and first and first[0].broken in UNFINISHED:
        # It cannot be read now, which says nothing of what it holds.
        yield Increment(file.name, first, progress=read._replace(state=state, complete=True, read_at=now)), 0
        return
    ended, unread, digest = _beyond(file, chain(first, records), read, state)
    generation = ended >> PLACE_BITS << PLACE_BITS
    complete = False
    while not complete:
        taken: list[Record] = []
        size, complete = 0, True
        for record in unread:
            taken.append(record._replace(position=generation + record.position) if generation else record)
            if record.broken not in UNFINISHED:
                ended = taken[-1].position
                size += digest.add(record)
            if len(taken) >= CHUNK or size >= CHUNK_BYTES:
                complete = False
                break
        yield Increment(file.name, taken, progress=Progress(ended, digest.number, state, complete, now)), size


def _beyond(
    file: LandingFile, records: Iterator[Record], read: Progress | None, state: int
) -> tuple[int, Iterator[Record], Digest]:
    """Return up to where a file has been read, what comes then, and the digest of what came before.

    If it no longer begins with what was read, all of it comes, as another generation.

    Args:
        file: the file.
        records: its records.
        read: how far it has been read.
        state: of the file now.
    """
    # When it was fetched is no part of what a file declares that is replaced as a whole.
    new_digest = partial(Digest, ignored="fetched_at" if file.folder in REPLACED else None)
    if read is None or not read.position:
        return 0, records, new_digest()
    generation, known, following = read.position >> PLACE_BITS, new_digest(), list[Record]()
    for record in records:
        if record.position > read.position - (generation << PLACE_BITS):
            following.append(record)
            break
        known.add(record)
    # Nobody has written it since a reading that was broken off.
    resumed = not read.complete and read.state == state
    longer = bool(following) and file.folder in REPLACED and not resumed
    if known.number != read.digest or longer:
        return (generation + 1) << PLACE_BITS, file.records(settings().max_record_bytes), new_digest()
    return read.position, chain(following, records), known


def _polled(lakehouse: Lakehouse, expected: SourceSchema, source: IncrementalSource) -> Iterator[list[Increment]]:
    """Yield what a source gives that is new; of a rival that reads it at the same time, only one can append."""
    delta, commits = lakehouse.open(expected.table), COMMITS.name(source.name)
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
            yield [Increment(source.name, unstored, {commits: count}, {**reached, commits: following})]
            count, kept = following, reached


def _unstored(lakehouse: Lakehouse, expected: SourceSchema, source: str, records: Iterable[Record]) -> list[Record]:
    """Return records of a source that neither its table nor quarantine holds, each once."""
    unstored = {record.position: record for record in records}
    theirs = (pl.col("source") == source) & pl.col("position").is_in(list(unstored))
    days, of_table = _days(unstored.values(), expected), pl.col("table") == expected.table
    stored = lakehouse.scan(expected.table).filter(theirs if days is None else theirs & pl.col(DAY).is_in(days))
    broken = lakehouse.scan(QUARANTINE).filter(theirs & of_table)
    for position in pl.concat([stored.select("position"), broken.select("position")]).collect()["position"]:
        unstored.pop(position, None)
    return list(unstored.values())


def _days(records: Iterable[Record], expected: SourceSchema) -> list[date] | None:
    """Return the days that rows of these records may be of; None if it depends on when they were received."""
    days = set()
    for record in records:
        if record.fields is not None and expected.event_time not in record.fields:
            return None
        with suppress(BrokenError):
            days.add(moment_of((record.fields or {}).get(expected.event_time), expected.event_time).date())
    return sorted(days)
