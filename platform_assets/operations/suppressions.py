"""One row is one name whose records no source brings in again, as a salted hash: of a subject, or of a document of one.

Erasure adds rows. Ingestion drops the records that name one of them, and counts them. The row without a hash keeps the
salt of all others.
"""

import secrets
from collections.abc import Iterable

import dagster as dg
import polars as pl

from governance import catalog
from governance.erasure import DOCUMENT, Subject, Suppressions, hashed, names_to_suppress
from platform_assets.conventions import table_spec
from resources.lakehouse.tables import Lakehouse

TABLE = "operations/suppressions"
KEY = catalog.table(TABLE).key
NO_NAME = ""
SCHEMA = {"hash": pl.String, "salt": pl.String}


@dg.asset(**table_spec(TABLE, __doc__, daily=False))
def suppressions(lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Count the suppressed names."""
    lakehouse.insert_missing(TABLE, pl.DataFrame(schema=SCHEMA), KEY)
    version, rows = lakehouse.state(TABLE)
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "delta_version": version})


def suppressed_names(lakehouse: Lakehouse) -> Suppressions:
    """Return the suppressed names."""
    if not lakehouse.exists(TABLE):
        return Suppressions()
    rows = lakehouse.read(TABLE)
    return Suppressions(max(rows["salt"], default=""), frozenset(rows["hash"]) - {NO_NAME})


def salt_of(lakehouse: Lakehouse) -> str:
    """Return the salt of all hashes, made when it is first asked for."""
    first = pl.DataFrame({"hash": [NO_NAME], "salt": [secrets.token_hex(16)]}, SCHEMA)
    lakehouse.insert_missing(TABLE, first, KEY)
    return suppressed_names(lakehouse).salt


def suppress(lakehouse: Lakehouse, subject: Subject, documents: pl.DataFrame) -> None:
    """Suppress a subject and the subject's documents.

    Args:
        lakehouse: the tables.
        subject: the subject.
        documents: tenant_id and document_id.
    """
    names = names_to_suppress(subject, documents.select(catalog.TENANT, DOCUMENT).iter_rows())
    salt = salt_of(lakehouse)
    rows = [(hashed(salt, *name), salt) for name in sorted(names)]
    lakehouse.insert_missing(TABLE, pl.DataFrame(rows, SCHEMA, orient="row"), KEY)


def kept(suppressed: Suppressions, table: str, parts: Iterable[pl.DataFrame]) -> tuple[list[pl.DataFrame], int]:
    """Return rows or broken records of a table without those that are suppressed, and the number of these."""
    if not suppressed.hashes:
        return [*parts], 0
    results, dropped = [], 0
    for part in parts:
        is_suppressed = suppressed.suppressed(catalog.table(table), part)
        results.append(part.filter(~is_suppressed))
        dropped += int(is_suppressed.sum())
    return results, dropped
