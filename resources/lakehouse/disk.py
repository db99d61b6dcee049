"""The disk of a table: what no version needs any longer leaves it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resources.lakehouse.tables import Lakehouse

# Digits of a version in the name of a file of the log.
DIGITS = 20


def purge(lakehouse: "Lakehouse", table: str) -> int:
    """Delete all that a table held before its present version: files of rows, and entries of the log.

    The version stays, so that no table made from this one becomes stale. Files that no commit names stay too: another
    writer may be about to commit them. Who reads an earlier version meanwhile fails, and reads the present one next.

    Returns:
        The number of deleted files.
    """
    from pyarrow.fs import FileSelector

    from resources.lakehouse.files import file_system

    delta = lakehouse.open(table)
    delta.create_checkpoint()
    system, folder = file_system(lakehouse, table)
    # A dry run, because a vacuum is a commit.
    unused = delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True)
    present = f"{delta.version():0{DIGITS}}"
    entries = [info.base_name for info in system.get_file_info(FileSelector(f"{folder}/_delta_log"))]
    former = [f"_delta_log/{name}" for name in entries if name[:DIGITS].isdecimal() and name[:DIGITS] < present]
    deleted = 0
    for name in (*unused, *former):
        try:
            system.delete_file(f"{folder}/{name}")
            deleted += 1
        except FileNotFoundError:  # deleted by an earlier purge: the log keeps naming it for a while
            continue
    return deleted
