"""The addresses under which pages were seen, and the documents that they name."""

import polars as pl

from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.changes import rows_of_new_files
from resources.lakehouse.tables import Lakehouse

PAGES = "silver/pages"
NAME = ("tenant_id", "address")
SCHEMA = {
    "tenant_id": pl.String,
    "address": pl.String,
    "document_id": pl.String,
    "fetched_at": pl.Datetime("us", "UTC"),
}


class Aliases:
    """The document that each address names; new rows of silver/pages are read as they come."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self.lakehouse = lakehouse
        self._files: set[str] = set()
        self._version: int | None = None
        self._known = pl.DataFrame(schema=SCHEMA)

    def resolved(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with ``tenant_id`` and ``address`` beside the ``document_id`` that the address names.

        That is the document of the organisation's own newest fetch of the address, or else of anyone's, or else the
        address itself.
        """
        known = self._look()
        newest = known.sort("fetched_at", "tenant_id").unique("address", keep="last", maintain_order=True)
        anyone = newest.select("address", anyones="document_id")
        return (
            rows.join(known.select(*NAME, own="document_id"), on=NAME, how="left", maintain_order="left")
            .join(anyone, on="address", how="left", maintain_order="left")
            .with_columns(document_id=pl.coalesce("own", "anyones", "address"))
            .drop("own", "anyones")
        )

    def _look(self) -> pl.DataFrame:
        if self.lakehouse.exists(PAGES) and self.lakehouse.version(PAGES) != self._version:
            version = self.lakehouse.version(PAGES)
            rows, files = rows_of_new_files(self.lakehouse, PAGES, self._files, list(SCHEMA))
            if self._files - files:  # days were made again: what they said no longer counts
                rows, files = rows_of_new_files(self.lakehouse, PAGES, (), list(SCHEMA))
                self._known = self._known.clear()
            both = pl.concat([self._known, rows.with_columns(pl.col("tenant_id").fill_null(DEFAULT_TENANT))])
            # Also those that name themselves: a newer fetch may be of the address itself.
            newest = both.sort("fetched_at", "document_id")
            self._known = newest.unique(NAME, keep="last", maintain_order=True)
            self._files, self._version = files, version
        return self._known
