"""The disk of a table: small files become few, and what no version needs any longer leaves it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
from deltalake.exceptions import CommitFailedError

from resources.lakehouse.checkpoints import COMPACTED_AS, COMPACTED_FROM
from resources.lakehouse.days import DAY
from resources.lakehouse.files import file_system, log_entries
from resources.lakehouse.staleness import file_states

if TYPE_CHECKING:
    from resources.lakehouse.tables import Lakehouse

# Size of a compacted file; one of half of it is left alone.
TARGET_BYTES = 128 << 20
# Digits of a version in the name of a file of the log.
DIGITS = 20


def compact(lakehouse: "Lakehouse", table: str, small_files: int = 1) -> int:
    """Rewrite the small files of each day that has more than some; return the number of files that this saved.

    Rows stay as they are, so no table made from this one becomes stale. Who appends meanwhile is not disturbed; if
    another writer replaces the rows, the day is left for the next time.
    """
    delta = lakehouse.open(table)
    files = pl.DataFrame(delta.get_add_actions(flatten=True))
    by = [f"partition.{DAY}"] if f"partition.{DAY}" in files.columns else []
    small = files.filter(pl.col("size_bytes") < TARGET_BYTES // 2) if files.height else files
    groups = (
        small.group_by(by or pl.lit("")).len("files").filter(pl.col("files") > small_files) if files.height else small
    )
    checkpoints, saved = dict(lakehouse.checkpoints(table)), 0
    for group, _ in groups.sort(pl.nth(0)).iter_rows():
        before, states = delta.version(), file_states(delta, checkpoints) if by else {}
        filters = [(DAY, "=", str(group))] if by else None
        try:
            metrics = delta.optimize.compact(partition_filters=filters, target_size=TARGET_BYTES)
        except CommitFailedError:
            delta = lakehouse.open(table)
            continue
        saved += metrics["numFilesRemoved"] - metrics["numFilesAdded"]
        # Only if nobody has written in between are the new files known to hold the same rows.
        if by and delta.version() == before + 1:
            day = str(group)
            checkpoints[COMPACTED_FROM.name(day)] = states[day]
            checkpoints[COMPACTED_AS.name(day)] = file_states(delta, {})[day]
            names = (COMPACTED_FROM.name(day), COMPACTED_AS.name(day))
            lakehouse.save_checkpoints(table, {name: checkpoints[name] for name in names})
            delta.update_incremental()
    return saved


def purge(lakehouse: "Lakehouse", table: str, kept: timedelta = timedelta()) -> int:
    """Delete what a table no longer held some time ago: files of rows, and entries of the log.

    The version stays, so that no table made from this one becomes stale. Without that time, files that no commit names
    stay too: another writer may be about to commit them. Who reads an earlier version meanwhile fails, and reads the
    present one next.

    Returns:
        The number of deleted files.
    """
    delta = lakehouse.open(table)
    delta.create_checkpoint()
    system, folder = file_system(lakehouse, table)
    # A dry run, because a vacuum is a commit.
    hours = int(kept.total_seconds() // 3600)
    unused = delta.vacuum(retention_hours=hours, enforce_retention_duration=False, dry_run=True, full=hours > 0)
    until, oldest, entries = datetime.now(UTC) - kept, "", log_entries(lakehouse, table)
    # The last checkpoint of that time, or the present one: every later version is made from it.
    for name, written in entries.items():
        if ".checkpoint" in name and (not kept or written.astimezone(UTC) < until):
            oldest = max(oldest, name[:DIGITS])
    former = [f"_delta_log/{name}" for name in entries if name[:DIGITS].isdecimal() and name[:DIGITS] < oldest]
    deleted = 0
    for name in (*unused, *former):
        try:
            system.delete_file(f"{folder}/{name}")
            deleted += 1
        except FileNotFoundError:  # deleted by an earlier purge: the log keeps naming it for a while
            continue
    return deleted
