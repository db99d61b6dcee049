"""`seamless export`: all rows that hold a person, for that person."""

import json
from collections.abc import Mapping
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


def rows_to_export(settings: Settings, subject: Subject) -> dict[str, pl.DataFrame]:
    """Return the rows of a subject by table, as the role privacy sees them.

    A row of another person that only names the subject is left out.
    """
    reader, exported, tables = role(READER, subject.tenant), {}, lakehouse(settings)
    land_spool(tables, settings.decision_spool)
    for table, found in rows_of(tables, subject).items():
        owners = subject_columns(catalog.table(table), found.columns)
        own = [pl.all_horizontal(pl.lit(value=True), pl.col(owners).is_null()), pl.col(owners).eq(subject.id)]
        rows = found.filter(pl.any_horizontal(own).fill_null(value=False))
        # The rows are those of the subject's tenant already, also where a table names none.
        visible = view(reader, None, table, rows.columns)
        if visible is not None and rows.height:
            exported[table] = rows.select(visible.columns)
    return exported


def write(exported: Mapping[str, pl.DataFrame], folder: Path) -> None:
    """Write rows to one file of JSON lines a table."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, rows in exported.items():
        with (folder / f"{table.replace('/', '_')}.jsonl").open("w", encoding="utf-8") as file:
            for line in rows.iter_rows(named=True):
                file.write(json.dumps(line, ensure_ascii=False, default=_readable) + "\n")


def _readable(value: object) -> str:
    """Return a time as text, and of bytes their digest."""
    return sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
