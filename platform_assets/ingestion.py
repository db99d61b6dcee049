"""Ingestion into bronze from files, topics, databases and APIs: each record is read once."""

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

from governance.erasure import Suppressions
from platform_assets.conventions import table_spec
from platform_assets.operations.suppressions import kept, suppressed_names
from platform_assets.parsing import BrokenError, SourceSchema, parse_records, parse_timestamp
from platform_assets.publishing import QUARANTINE, accounted_check, quarantine_rows, reconcile, to_broken_rows
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

# Faults of the end of a file that is still being written: it is read again once the file has grown.
UNFINISHED_RULES = ("corrupt_file", "unfinished_line")
# A rewritten file is read from its beginning as another generation, whose positions continue above the former ones.
# A position is the generation, and in this many low bits the record's number.
RECORD_BITS = 40


def ingest(
    lakehouse: Lakehouse,
    expected: SourceSchema,
    files: Iterable[LandingFile],
    now: datetime,
    sources: Iterable[IncrementalSource] = (),
    listing: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Append to a bronze table the unread records of its files, and then of its other sources.

    A file that grew is read on from where the last reading ended, a rewritten one from its beginning. An unchanged one
    is not opened. A record counts as read with the commit that holds its row.

    Args:
        lakehouse: the tables.
        expected: the table's source schema.
        files: files that may hold unread records.
        now: when they are received (UTC).
        sources: the table's sources besides files.
        listing: checkpoint to keep once all the files are read (see ``candidate_files``).

    Returns:
        rows_in, rows_out, rows_quarantined, rows_suppressed, files.

    Raises:
        SourceError: a source does not answer or refuses; the other sources are read, and what was read stays.
        CommitFailedError: another writer has read the same sources meanwhile; what was read before it stays.
    """
    counts = {"rows_in": 0, "rows_out": 0, "rows_quarantined": 0, "rows_suppressed": 0, "files": 0}
    errors: list[SourceError] = []
    prepare(lakehouse, expected, now)
    polled = (_poll(lakehouse, expected, source) for source in sources)
    ledger = Ledger(lakehouse, expected.table)
    for batches in (_unread(ledger, files, listing or {}), *polled):
        try:
            for increments in batches:
                rows, rows_quarantined, rows_suppressed = append(lakehouse, expected, increments, now, ledger)
                counts["rows_in"] += sum(len(increment.records) for increment in increments)
                counts["files"] += sum(
                    increment.progress is not None and increment.progress.complete for increment in increments
                )
                counts["rows_out"] += rows.height
                counts["rows_quarantined"] += rows_quarantined
                counts["rows_suppressed"] += rows_suppressed
        except SourceError as error:
            errors.append(error)
    rows_published = counts["rows_out"] + counts["rows_suppressed"]
    reconcile(expected.table, counts["rows_in"], rows_published, counts["rows_quarantined"])
    if errors:
        raise errors[0]
    return counts


def prepare(lakehouse: Lakehouse, expected: SourceSchema, now: datetime) -> None:
    """Create a bronze table, and quarantine, where they do not exist."""
    rows, broken = parse_records([], expected, "", now)
    if not lakehouse.exists(expected.table):
        lakehouse.append_once(expected.table, rows, {}, {})
    if not lakehouse.exists(QUARANTINE):
        lakehouse.insert_missing(QUARANTINE, quarantine_rows(expected.table, to_broken_rows(broken)), ["quarantine_id"])


@dataclass(frozen=True)
class Increment:
    """Records of a source that had not been read, and how far it has now been read.

    Attributes:
        source: the name of the source, kept in every row.
        records: the records.
        before: the bronze table's checkpoints of the source when the reading began; None for none.
        after: its checkpoints once the records are appended.
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
) -> tuple[pl.DataFrame, int, int]:
    """Append increments to a bronze table, with their checkpoints, in one commit.

    Records of suppressed subjects are dropped.

    Args:
        lakehouse: the tables.
        expected: the table's source schema.
        increments: records that were read.
        now: when they were received (UTC).
        ledger: keeps the progress of files.

    Returns:
        The rows, the number of quarantined records, and that of suppressed ones.

    Raises:
        CommitFailedError: another writer has read the same sources meanwhile; nothing was appended.
    """
    parts, rows_suppressed = [], 0
    suppressed = suppressed_names(lakehouse)
    before: dict[str, int | None] = {}
    after: dict[str, int] = {}
    progress: dict[str, Progress] = {}
    for increment in increments:
        parsed = parse_records(increment.records, expected, increment.source, now, settings().first_day)
        (rows, broken), dropped = kept(suppressed, expected.table, parsed)
        reconcile(expected.table, len(increment.records), rows.height + dropped, broken.height)
        rows_suppressed += dropped
        parts.append((rows, quarantine_rows(expected.table, to_broken_rows(broken))))
        before |= increment.before
        after |= increment.after
        if increment.progress is not None:
            progress[increment.source] = increment.progress
    rows, broken = (pl.concat(frames, how="diagonal") for frames in zip(*parts, strict=True))
    if ledger is not None and progress:
        before[LEDGER], after[LEDGER] = ledger.plan(progress)
    # Quarantine first: after a kill between the two, the records are read again and get the same ids.
    if broken.height:
        lakehouse.insert_missing(QUARANTINE, broken, ["quarantine_id"])
    lakehouse.append_once(expected.table, rows, before, after)
    if ledger is not None and progress:
        ledger.settle(progress, after[LEDGER])
    return rows, broken.height, rows_suppressed


def has_unread(lakehouse: Lakehouse, expected: SourceSchema) -> bool:
    """Say whether a bronze table has unread files, or unread records of other sources.

    A table that does not exist must be created, also without files: others read it. A source that does not answer is
    skipped with a warning, so that it does not hold up the others.
    """
    if not lakehouse.exists(expected.table):
        return True
    try:
        files, listing = candidate_files(lakehouse, expected, peek=True)
        read = Ledger(lakehouse, expected.table).files
        if any(has_changed(file, read) for file in files) or listing:
            return True
    except SourceError as error:
        _warn(expected, error)
    delta = lakehouse.open(expected.table)
    for source in sources_of(expected):
        try:
            records = source.peek(delta.transaction_version)
        except SourceError as error:
            _warn(expected, error)
            continue
        if _has_kept(lakehouse, expected, _unstored(lakehouse, expected, source.name, records)):
            return True
    return False


def _warn(expected: SourceSchema, error: SourceError) -> None:
    logging.getLogger(__name__).warning("%s: %s", expected.table, error)


def candidate_files(
    lakehouse: Lakehouse, expected: SourceSchema, *, peek: bool = False
) -> tuple[Iterable[LandingFile], dict[str, int]]:
    """Return the files of a table's folder that may hold unread records.

    Args:
        lakehouse: the tables.
        expected: the table's source schema.
        peek: list only where a bucket's new files are likely, also when a full listing is due.

    Returns:
        Files, and the checkpoint to keep once they are read: the time of the full listing, if one is due.
    """
    landing, folder = settings().decision_spool if expected.spooled else settings().landing, expected.folder
    if isinstance(landing, Path):
        return landed_files(landing, folder), {}
    read = {file: progress.read_at for file, progress in Ledger(lakehouse, expected.table).files.items()}
    likely = likely_ranges({file: at for file, at in read.items() if file.startswith(f"{folder}/")})
    name, now = LISTED.name(landing), time.time_ns() // 10**6
    listed = lakehouse.checkpoint(expected.table, name)
    due = listed is None or (likely != ALL_NAMES and now - listed >= FULL_LISTING_MS)
    bucket = Bucket(landing, settings(), attempts=1 if peek else ATTEMPTS)
    return bucket.files(folder, ALL_NAMES if due and not peek else likely), {name: now} if due else {}


def sources_of(expected: SourceSchema) -> list[IncrementalSource]:
    """Return the configured sources of a bronze table besides files."""
    configured = settings()
    sources: list[IncrementalSource] = []
    if expected.sql_table and configured.postgres_dsn:
        table = Table(
            configured.postgres_dsn,
            expected.sql_table,
            key=expected.key,
            dated_by=expected.event_time,
            chunk=CHUNK,
            max_bytes=configured.max_record_bytes,
        )
        sources.append(table)
    if expected.pulled and configured.pull_url:
        seconds = 1 / configured.pull_requests_per_second
        api = PagedApi(
            configured.pull_url, configured.pull_token, seconds_between=seconds, max_bytes=configured.max_record_bytes
        )
        sources.append(api)
    return sources


def bronze_asset(doc: str | None, expected: SourceSchema) -> dg.AssetsDefinition:
    """Return the asset that ingests a bronze table from the landing folder and its other sources."""

    @dg.asset(**table_spec(expected.table, doc, daily=False))
    def bronze(lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
        started = time.perf_counter()
        before = lakehouse.count(expected.table) if lakehouse.exists(expected.table) else 0
        files, listing = candidate_files(lakehouse, expected)
        counts = ingest(lakehouse, expected, files, datetime.now(UTC), sources_of(expected), listing)
        version, rows = lakehouse.state(expected.table)
        seconds = round(time.perf_counter() - started, 3)
        return dg.MaterializeResult(
            metadata={
                **counts,
                "dagster/row_count": rows,
                "seconds": seconds,
                "delta_version": version,
            },
            check_results=[
                accounted_check(rows - before == counts["rows_out"], rows_before=before, rows_now=rows, **counts)
            ],
        )

    return bronze


def _unread(ledger: Ledger, files: Iterable[LandingFile], listing: Mapping[str, int]) -> Iterator[list[Increment]]:
    """Yield batches of increments of files, each within the budgets; the last carries the listing's checkpoint."""
    batch: list[Increment] = []
    records = size = 0
    try:
        for file in files:
            if not has_changed(file, ledger.files):
                continue
            with suppress(ReplacedError):
                for increment, increment_size in _increments(file, ledger.files.get(file.name)):
                    if batch and (records + len(increment.records) > CHUNK or size + increment_size > CHUNK_BYTES):
                        yield batch
                        batch, records, size = [], 0, 0
                    batch.append(increment)
                    records, size = records + len(increment.records), size + increment_size
                    if records >= CHUNK or size >= CHUNK_BYTES:
                        yield batch
                        batch, records, size = [], 0, 0
    except SourceError:
        if batch:
            yield batch
        raise
    if listing:
        batch.append(Increment("", [], after=listing))
    if batch:
        yield batch


def has_changed(file: LandingFile, read: Mapping[str, Progress]) -> bool:
    """Say whether a file has been written since it was read to its end; a deleted one has not."""
    progress = read.get(file.name)
    try:
        return progress is None or not progress.complete or progress.state != file.state
    except ReplacedError:
        return False


def _increments(file: LandingFile, read: Progress | None) -> Iterator[tuple[Increment, int]]:
    """Yield a file's unread records and their bytes, as much at a time as one commit may hold."""
    state, now = file.state, datetime.now(UTC)
    records = file.records(settings().max_record_bytes)
    first = list(islice(records, 1))
    if read and read.position and first and first[0].broken in UNFINISHED_RULES:
        # It cannot be read now, so it is not known to be rewritten.
        yield Increment(file.name, first, progress=read._replace(state=state, complete=True, read_at=now)), 0
        return
    position, unread, digest = _seek(file, chain(first, records), read, state)
    generation = position >> RECORD_BITS << RECORD_BITS
    complete = False
    while not complete:
        chunk: list[Record] = []
        size, complete = 0, True
        for record in unread:
            chunk.append(record._replace(position=generation + record.position) if generation else record)
            if record.broken not in UNFINISHED_RULES:
                position = chunk[-1].position
                size += digest.add(record)
            if len(chunk) >= CHUNK or size >= CHUNK_BYTES:
                complete = False
                break
        yield Increment(file.name, chunk, progress=Progress(position, digest.number, state, complete, now)), size


def _seek(
    file: LandingFile, records: Iterator[Record], read: Progress | None, state: int
) -> tuple[int, Iterator[Record], Digest]:
    """Return the position up to which a file has been read, the records after it, and the digest of those before.

    A file that no longer begins with what was read is read whole, as another generation.

    Args:
        file: the file.
        records: its records.
        read: how far it has been read.
        state: the file's state now.
    """
    # Of a file that is replaced as a whole, the time of the fetch alone is no change.
    new_digest = partial(Digest, ignored="fetched_at" if file.folder in REPLACED else None)
    if read is None or not read.position:
        return 0, records, new_digest()
    generation, digest, following = read.position >> RECORD_BITS, new_digest(), list[Record]()
    for record in records:
        if record.position > read.position - (generation << RECORD_BITS):
            following.append(record)
            break
        digest.add(record)
    # The last reading was broken off, and the file has not been written since.
    resumed = not read.complete and read.state == state
    longer = bool(following) and file.folder in REPLACED and not resumed
    if digest.number != read.digest or longer:
        return (generation + 1) << RECORD_BITS, file.records(settings().max_record_bytes), new_digest()
    return read.position, chain(following, records), digest


def _poll(lakehouse: Lakehouse, expected: SourceSchema, source: IncrementalSource) -> Iterator[list[Increment]]:
    """Yield the new records of a source; of two writers that poll it at once, only one can append."""
    delta, commits = lakehouse.open(expected.table), COMMITS.name(source.name)
    # Unlike the source's own checkpoints, which a late row leaves alone, this one moves with every commit.
    count = delta.transaction_version(commits)
    stored: dict[str, int] = {}
    for records, reached in source.read(delta.transaction_version):
        unstored = _unstored(lakehouse, expected, source.name, records)
        moved = {
            name: value for name, value in reached.items() if value != stored.get(name, delta.transaction_version(name))
        }
        if moved or _has_kept(lakehouse, expected, unstored):
            following = (count or 0) + 1
            yield [Increment(source.name, unstored, {commits: count}, {**reached, commits: following})]
            count, stored = following, reached


def _unstored(lakehouse: Lakehouse, expected: SourceSchema, source: str, records: Iterable[Record]) -> list[Record]:
    """Return the records of a source that neither its table nor quarantine holds, each once."""
    unstored = {record.position: record for record in records}
    of_records = (pl.col("source") == source) & pl.col("position").is_in(list(unstored))
    days = _days(unstored.values(), expected)
    stored = lakehouse.scan(expected.table).filter(of_records if days is None else of_records & pl.col(DAY).is_in(days))
    broken = lakehouse.scan(QUARANTINE).filter(of_records, pl.col("table") == expected.table)
    for position in pl.concat([stored.select("position"), broken.select("position")]).collect()["position"]:
        unstored.pop(position, None)
    return list(unstored.values())


def _has_kept(lakehouse: Lakehouse, expected: SourceSchema, records: list[Record]) -> bool:
    """Say whether any of some records is not suppressed: a source goes on holding those that are."""
    suppressed = suppressed_names(lakehouse) if records else Suppressions()
    if not suppressed.hashes:
        return bool(records)
    return kept(suppressed, expected.table, parse_records(records, expected, "", datetime.now(UTC)))[1] < len(records)


def _days(records: Iterable[Record], expected: SourceSchema) -> list[date] | None:
    """Return the possible days of records; None if a day depends on when the record was received."""
    days = set()
    for record in records:
        if record.fields is not None and expected.event_time not in record.fields:
            return None
        with suppress(BrokenError):
            days.add(parse_timestamp((record.fields or {}).get(expected.event_time), expected.event_time).date())
    return sorted(days)
