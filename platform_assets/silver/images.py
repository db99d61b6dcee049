"""One row is one picture, fetched by itself or with a page.

``page_url`` is null for a picture that was fetched by itself. ``content_hash`` is the SHA-256 of its bytes.
"""

import base64
import binascii
import hashlib
import json
from typing import Any

import dagster as dg
import polars as pl

from platform_assets.bronze.page_fetches import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.parsing import declared
from platform_assets.publishing import start
from platform_assets.silver.pages import IS_IMAGE
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.tables import Lakehouse
from resources.landing.budgets import MAX_PICTURES_PER_RECORD, MAX_PIXELS_PER_RECORD
from signals.documents.images import pixels, probe_image
from signals.documents.urls import canonical_url, joined

TABLE = "silver/images"
INPUTS = (SCHEMA.table,)
FETCH = ("tenant_id", "fetched_at", "source", "position", "received_at", "event_date")
PICTURE = {
    "document_id": pl.String,
    "page_url": pl.String,
    "content_hash": pl.String,
    "format": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "bytes": pl.Int64,
    "body": pl.Binary,
    "ordinal": pl.Int32,
    "rule": pl.String,
}


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def images(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Unpack the pictures of each fetch, and read their format and size."""
    write = start(context, lakehouse, TABLE, INPUTS)
    fetches = declared(lakehouse.read(SCHEMA.table, write.days), SCHEMA).drop("html")
    return write.publish(unpacked, fetches.filter(IS_IMAGE | pl.col("images").is_not_null()), several=True)


def unpacked(fetches: pl.DataFrame) -> pl.DataFrame:
    """Return one row a picture, with ``rule`` where it is none that can be decoded."""
    rows = fetches.with_columns(
        fetched_at=pl.coalesce("fetched_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    found = [
        {name: fetch[name] for name in FETCH} | picture | {"ordinal": ordinal}
        for fetch in rows.iter_rows(named=True)
        for ordinal, picture in enumerate(_pictures(fetch))
    ]
    return pl.DataFrame(found, schema={**{name: rows.schema[name] for name in FETCH}, **PICTURE})


def _pictures(fetch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pictures of a fetch, of which only so many, and so many pixels, are looked at."""
    if fetch["images"] is None:
        return [_picture(fetch["url"], None, fetch["body"], MAX_PIXELS_PER_RECORD)]
    try:
        listed = json.loads(fetch["images"])
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        return [{"page_url": fetch["url"], "rule": "images_not_a_list"}]
    found, left = [], MAX_PIXELS_PER_RECORD
    for item in listed[:MAX_PICTURES_PER_RECORD]:
        found.append(_embedded(fetch["url"], item, left))
        left -= found[-1].get("width", 0) * found[-1].get("height", 0)
    if len(listed) > MAX_PICTURES_PER_RECORD:
        found.append({"page_url": fetch["url"], "rule": f"too_many_pictures:{len(listed)}"})
    return found


def _embedded(page_url: str, item: Any, most: int) -> dict[str, Any]:
    try:
        url = joined(page_url, str(item["url"]))
        if not url:
            raise ValueError(item["url"])
        return _picture(url, page_url, base64.b64decode(item["data"], validate=True), most)
    except (TypeError, KeyError, ValueError, binascii.Error):
        return {"page_url": page_url, "rule": "image_unreadable"}


def _picture(url: str, page_url: str | None, body: bytes | None, most: int) -> dict[str, Any]:
    size = pixels(body)
    if size is not None and size > most:
        return {"document_id": canonical_url(url), "page_url": page_url, "rule": f"too_many_pixels:{size}"}
    picture = probe_image(body)
    if picture is None:
        return {"document_id": canonical_url(url), "page_url": page_url, "rule": "image_undecodable"}
    return {
        "document_id": canonical_url(url),
        "page_url": page_url,
        "content_hash": hashlib.sha256(body or b"").hexdigest(),
        "format": picture.format,
        "width": picture.width,
        "height": picture.height,
        "bytes": len(body or b""),
        "body": body,
    }
