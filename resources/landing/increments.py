"""Increments: what is unread of landed files, in batches that one commit may hold."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice

from resources.landing.budgets import CHUNK, CHUNK_BYTES
from resources.landing.ledger import Ledger, Progress
from resources.landing.readers import REPLACED
from resources.landing.records import Digest, LandingFile, Record, ReplacedError
from resources.sources.incremental import SourceError

# Faults of the end of a file that is still being written: it is read again once the file has grown.
UNFINISHED_RULES = ("corrupt_file", "unfinished_line")
# A rewritten file is read from its beginning as another generation, whose positions continue above the former ones.
# A position is the generation, and in this many low bits the record's number.
RECORD_BITS = 40


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


def unread(
    ledger: Ledger, files: Iterable[LandingFile], listing: Mapping[str, int], max_record_bytes: int
) -> Iterator[list[Increment]]:
    """Yield batches of increments of files, each within the budgets; the last carries the listing's checkpoint."""
    batch: list[Increment] = []
    records = size = 0
    try:
        for file in files:
            if not has_changed(file, ledger.files):
                continue
            with suppress(ReplacedError):
                for increment, increment_size in _increments(file, ledger.files.get(file.name), max_record_bytes):
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


def _increments(file: LandingFile, read: Progress | None, max_record_bytes: int) -> Iterator[tuple[Increment, int]]:
    """Yield a file's unread records and their bytes, as much at a time as one commit may hold."""
    state, now = file.state, datetime.now(UTC)
    records = file.records(max_record_bytes)
    first = list(islice(records, 1))
    if read and read.position and first and first[0].broken in UNFINISHED_RULES:
        # It cannot be read now, so it is not known to be rewritten.
        yield Increment(file.name, first, progress=read._replace(state=state, complete=True, read_at=now)), 0
        return
    position, unread, digest = _seek(file, chain(first, records), read, state, max_record_bytes)
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
    file: LandingFile, records: Iterator[Record], read: Progress | None, state: int, max_record_bytes: int
) -> tuple[int, Iterator[Record], Digest]:
    """Return the position up to which a file has been read, the records after it, and the digest of those before.

    A file that no longer begins with what was read is read whole, as another generation.

    Args:
        file: the file.
        records: its records.
        read: how far it has been read.
        state: the file's state now.
        max_record_bytes: a longer record is broken.
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
        return (generation + 1) << RECORD_BITS, file.records(max_record_bytes), new_digest()
    return read.position, chain(following, records), digest
