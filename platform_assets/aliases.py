"""Aliases: the normalised URLs under which pages were fetched, and the document that each names."""

import polars as pl

from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.changes import rows_of_new_files
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse

PAGES = "silver/pages"
KEY = ("tenant_id", "normalized_url")
SCHEMA = {
    "tenant_id": pl.String,
    "normalized_url": pl.String,
    "document_id": pl.String,
    "fetched_at": pl.Datetime("us", "UTC"),
}
# URLs that are kept in memory: about 100 MB.
MAX_URLS = 500_000


class Aliases:
    """The document that each normalised URL names.

    A URL is looked up once. After that, only new files of silver/pages are read, until days of it are replaced.
    """

    def __init__(self, lakehouse: Lakehouse) -> None:
        self.lakehouse = lakehouse
        self._index = KeyIndex(lakehouse, PAGES, ["normalized_url"])
        self._files: set[str] = set()
        self._version: int | None = None
        self._forget()

    def with_document_id(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with ``tenant_id`` and ``normalized_url`` beside the ``document_id`` that the URL names.

        That is the document of the tenant's newest fetch of the URL, else of any tenant's, else the URL itself.
        """
        aliases = self._of(rows.select("normalized_url").drop_nulls().unique())
        newest = aliases.sort("fetched_at", "tenant_id").unique("normalized_url", keep="last", maintain_order=True)
        shared = newest.select("normalized_url", shared="document_id")
        return (
            rows.join(aliases.select(*KEY, own="document_id"), on=KEY, how="left", maintain_order="left")
            .join(shared, on="normalized_url", how="left", maintain_order="left")
            .with_columns(document_id=pl.coalesce("own", "shared", "normalized_url"))
            .drop("own", "shared")
        )

    def _forget(self) -> None:
        self._urls = pl.DataFrame(schema={"normalized_url": pl.String})
        self._aliases = pl.DataFrame(schema=SCHEMA)

    def _of(self, urls: pl.DataFrame) -> pl.DataFrame:
        """Return the newest fetches of at least some URLs."""
        if not self.lakehouse.exists(PAGES):
            return self._aliases
        if self.lakehouse.version(PAGES) != self._version:
            self._follow()
        unknown = urls.join(self._urls, on="normalized_url", how="anti")
        if unknown.height:
            self._add(self._index.scan(unknown).select(SCHEMA.keys()).collect())
            self._urls = pl.concat([self._urls, unknown])
        return self._aliases

    def _follow(self) -> None:
        """Add the fetches in new files, of URLs that were looked up."""
        version, files = self.lakehouse.version(PAGES), {*self.lakehouse.open(PAGES).file_uris()}
        if self._files - files or self._urls.height > MAX_URLS:
            self._forget()
        if self._urls.height:
            rows, files = rows_of_new_files(self.lakehouse, PAGES, self._files, list(SCHEMA))
            self._add(rows.join(self._urls, on="normalized_url", how="semi"))
        self._files, self._version = files, version

    def _add(self, rows: pl.DataFrame) -> None:
        fetches = pl.concat([self._aliases, rows.with_columns(pl.col("tenant_id").fill_null(DEFAULT_TENANT))])
        # URLs that name themselves stay: such a fetch may be newer than one that names another document.
        newest = fetches.sort("fetched_at", "document_id")
        self._aliases = newest.unique(KEY, keep="last", maintain_order=True)
