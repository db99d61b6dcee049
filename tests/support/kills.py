"""Lakehouses whose process dies at a commit, and logs that are forgotten."""

from pathlib import Path

from resources.lakehouse.tables import Lakehouse


class KilledError(RuntimeError):
    """The process ends here."""


def dying_at_commits(uri):
    """Return a lakehouse whose process dies at each commit of rows: before it, then after it, and so on."""
    deaths = []

    class Dying(Lakehouse):
        def append_once(self, table, rows, before, after):
            if not rows.height:
                return super().append_once(table, rows, before, after)
            deaths.append("before" if len(deaths) % 2 == 0 else "after")
            if deaths[-1] == "after":
                super().append_once(table, rows, before, after)
            raise KilledError

    return Dying(uri=uri)


def clean_up_log(lake, table):
    """Put a table's files together and forget its log up to a checkpoint, as if all of it were old."""
    delta = lake.open(table)
    delta.optimize.compact()
    delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    delta.create_checkpoint()
    delta.cleanup_metadata()
    log = Path(lake.location(table)) / "_delta_log"
    assert len(list(log.glob("*.json"))) <= 1
