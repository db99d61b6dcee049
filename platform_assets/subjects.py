"""All rows of the lakehouse that hold one subject, and their removal."""

from collections.abc import Mapping

import polars as pl

from governance import catalog, erasure
from governance.erasure import DOCUMENT, TEXT, Subject
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import Lakehouse

Rows = Mapping[str, pl.DataFrame]


def rows_of(lakehouse: Lakehouse, subject: Subject) -> dict[str, pl.DataFrame]:
    """Return the rows of each table that has any: those that name a subject, or are about what the subject wrote.

    The tables come in the order in which their rows can be removed: what a document is known by goes last.
    """
    lakehouse = snapshot(lakehouse)
    stored = [table for name, table in catalog.tables().items() if lakehouse.exists(name)]
    named = {table.name: _where(lakehouse, table, subject) for table in stored}
    documents = documents_of(named)
    found = {
        table.name: pl.concat([named[table.name], _where(lakehouse, table, documents)]).unique(table.key)
        for table in stored
    }
    hashes = _own_texts(lakehouse, found)
    for table in filter(erasure.describes_texts, stored):
        rows = lakehouse.scan(table.name).filter(pl.col(TEXT).is_in(hashes.implode()))
        found[table.name] = rows.collect()
    ordered = sorted(stored, key=lambda table: (erasure.writes_documents(table), not erasure.describes_texts(table)))
    return {table.name: found[table.name] for table in ordered if found[table.name].height}


def documents_of(rows: Rows) -> pl.DataFrame:
    """Return tenant_id and document_id of the documents that the subject of some rows wrote."""
    written = [
        part.select(catalog.TENANT, DOCUMENT)
        for name, part in rows.items()
        if erasure.writes_documents(catalog.table(name))
    ]
    return pl.concat([pl.DataFrame(schema={catalog.TENANT: pl.String, DOCUMENT: pl.String}), *written]).unique()


def remove(lakehouse: Lakehouse, rows: Rows) -> None:
    """Remove rows of tables, in the order of the tables."""
    for table, part in rows.items():
        lakehouse.remove(table, part, catalog.table(table).key)


def _where(lakehouse: Lakehouse, table: catalog.Table, what: Subject | pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a table that name a subject, or are about one of some documents."""
    rows = lakehouse.scan(table.name)
    schema = rows.collect_schema()
    names = erasure.names_subject if isinstance(what, Subject) else erasure.names_document
    return rows.filter(names(table, schema, what)).collect()  # ty: ignore[invalid-argument-type]


def _own_texts(lakehouse: Lakehouse, found: Rows) -> pl.Series:
    """Return the hashes of the texts of some rows that no other row has."""
    parts = [rows[TEXT] for rows in found.values() if TEXT in rows.columns]
    hashes = pl.concat([pl.Series(TEXT, [], pl.String), *parts]).drop_nulls().unique()
    for table, rows in found.items():
        entry = catalog.table(table)
        if hashes.is_empty() or TEXT not in entry.classes or erasure.describes_texts(entry):
            continue
        same = lakehouse.scan(table).filter(pl.col(TEXT).is_in(hashes.implode())).select(TEXT, *entry.key).collect()
        others = same.join(rows, on=list(entry.key), how="anti", nulls_equal=True)
        hashes = hashes.filter(~hashes.is_in(others[TEXT].implode()))
    return hashes
