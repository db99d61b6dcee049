"""`seamless export`: all rows that hold a person, for that person."""

import json
from hashlib import sha256
from pathlib import Path

import polars as pl

from governance import catalog
from governance.access import role, view
from governance.erasure import Subject, subject_columns
from platform_assets.spool import land_spool
from platform_assets.subjects import rows_of
from resources.lakehouse.tables import lakehouse
from resources.settings import Settings

READER = "privacy"


def export(settings: Settings, subject: Subject, folder: Path) -> dict[str, int]:
    """Write the rows of a subject, as the role privacy sees them, to one file of JSON lines a table.

    A row of another person that only names the subject is not written.

    Returns:
        The number of rows of each table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reader, counts, tables = role(READER, subject.tenant), {}, lakehouse(settings)
    land_spool(tables, settings.decision_spool)
    for table, found in rows_of(tables, subject).items():
        owners = subject_columns(catalog.table(table), found.columns)
        own = [pl.all_horizontal(pl.lit(value=True), pl.col(owners).is_null()), pl.col(owners).eq(subject.id)]
        rows = found.filter(pl.any_horizontal(own).fill_null(value=False))
        # The rows are those of the subject's tenant already, also where a table names none.
        visible = view(reader, None, table, rows.columns)
        if visible is not None and rows.height:
            lines = rows.select(visible.columns).iter_rows(named=True)
            with (folder / f"{table.replace('/', '_')}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False, default=_readable) + "\n" for line in lines)
            counts[table] = rows.height
    return counts


def _readable(value: object) -> str:
    """Return a time as text, and of bytes their digest."""
    return sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
