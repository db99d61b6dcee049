"""Consent as a policy: what is about a person is kept only with it."""

import polars as pl

from governance.catalog import Class, Table

# Classes of the columns that are about a person.
OF_A_PERSON: tuple[Class, ...] = ("subject", "personal", "special")


def permitted(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return rows of a table, with nulls for what is about a person who does not consent, or of whom nobody knows."""
    if table.consent is None:
        return rows
    names = [name for name in rows.columns if table.classes.get(name) in OF_A_PERSON]
    return rows.with_columns(pl.when(table.consent).then(name).alias(name) for name in names)
