"""Aliases: the normalised URLs under which pages were fetched, and the document that each names."""

import polars as pl

from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.changes import rows_of_new_files
from resources.lakehouse.tables import Lakehouse

PAGES = "silver/pages"
KEY = ("tenant_id", "normalized_url")
SCHEMA = {
    "tenant_id": pl.String,
    "normalized_url": pl.String,
    "document_id": pl.String,
    "fetched_at": pl.Datetime("us", "UTC"),
}


class Aliases:
    """The document that each normalised URL names; only new files of silver/pages are read."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self.lakehouse = lakehouse
        self._files: set[str] = set()
        self._version: int | None = None
        self._aliases = pl.DataFrame(schema=SCHEMA)

    def with_document_id(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with ``tenant_id`` and ``normalized_url`` beside the ``document_id`` that the URL names.

        That is the document of the tenant's newest fetch of the URL, else of any tenant's, else the URL itself.
        """
        aliases = self._refresh()
        newest = aliases.sort("fetched_at", "tenant_id").unique("normalized_url", keep="last", maintain_order=True)
        shared = newest.select("normalized_url", shared="document_id")
        return (
            rows.join(aliases.select(*KEY, own="document_id"), on=KEY, how="left", maintain_order="left")
            .join(shared, on="normalized_url", how="left", maintain_order="left")
            .with_columns(document_id=pl.coalesce("own", "shared", "normalized_url"))
            .drop("own", "shared")
        )

    def _refresh(self) -> pl.DataFrame:
        if self.lakehouse.exists(PAGES) and self.lakehouse.version(PAGES) != self._version:
            version = self.lakehouse.version(PAGES)
            rows, files = rows_of_new_files(self.lakehouse, PAGES, self._files, list(SCHEMA))
            if self._files - files:  # days were replaced: their former rows no longer count
                rows, files = rows_of_new_files(self.lakehouse, PAGES, (), list(SCHEMA))
                self._aliases = self._aliases.clear()
            fetches = pl.concat([self._aliases, rows.with_columns(pl.col("tenant_id").fill_null(DEFAULT_TENANT))])
            # URLs that name themselves stay: such a fetch may be newer than one that names another document.
            newest = fetches.sort("fetched_at", "document_id")
            self._aliases = newest.unique(KEY, keep="last", maintain_order=True)
            self._files, self._version = files, version
        return self._aliases
