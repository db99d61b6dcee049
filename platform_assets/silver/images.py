"""One row is one image, fetched by itself or with a page.

``page_url`` is null for an image that was fetched by itself. ``content_hash`` is the SHA-256 of its bytes.
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
from platform_assets.publishing import QUARANTINE, start
from platform_assets.silver.pages import IS_IMAGE
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.landing.budgets import MAX_PICTURES_PER_RECORD, MAX_PIXELS_PER_RECORD
from signals.documents.images import pixels, probe_image
from signals.documents.urls import canonical_url, joined

TABLE = "silver/images"
HAS_IMAGES = IS_IMAGE | pl.col("images").is_not_null()
INPUTS = (SCHEMA.table,)
FETCH = ("tenant_id", "fetched_at", "source", "position", "received_at", "event_date")
# Rules of pictures that show nothing: invisible, or listed twice. Whatever breaks another rule may show anything.
SHOWS_NOTHING = ("large_enough", "tall_enough", "duplicate_key")
IMAGE = {
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
    """Unpack the images of each fetch, and read their format and size."""
    write = start(context, lakehouse, TABLE, INPUTS)
    fetches = declared(lakehouse.read(SCHEMA.table, write.days), SCHEMA).drop("html")
    return write.publish(unpacked, fetches.filter(HAS_IMAGES), several=True)


def with_unreadable(images: pl.DataFrame, pages: pl.DataFrame, lakehouse: Lakehouse) -> pl.DataFrame:
    """Return images of pages, and one without content for each page that came with a picture which nobody can read.

    Args:
        images: silver/images of some days.
        pages: silver/pages of the same days.
        lakehouse: with silver/quarantine.
    """
    if not lakehouse.exists(QUARANTINE) or pages.is_empty():
        return images
    broken = lakehouse.scan(QUARANTINE, [str(day) for day in pages[DAY].unique()]).filter(
        pl.col("table") == TABLE, ~pl.col("rule").is_in(SHOWS_NOTHING)
    )
    place = ["source", "position"]
    unreadable = pages.join(broken.select(place).unique().collect(), on=place, how="semi")
    unreadable = unreadable.select("tenant_id", "fetched_at", *place, "received_at", DAY, page_url="url")
    return pl.concat([images, unreadable], how="diagonal_relaxed")


def unpacked(fetches: pl.DataFrame) -> pl.DataFrame:
    """Return one row per image, with ``rule`` where it cannot be decoded."""
    rows = fetches.with_columns(
        fetched_at=pl.coalesce("fetched_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    images = [
        {name: fetch[name] for name in FETCH} | image | {"ordinal": ordinal}
        for fetch in rows.iter_rows(named=True)
        for ordinal, image in enumerate(_images(fetch))
    ]
    return pl.DataFrame(images, schema={**{name: rows.schema[name] for name in FETCH}, **IMAGE})


def _images(fetch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the images of a fetch, within the budgets of images and pixels."""
    if fetch["images"] is None:
        return [_image(fetch["url"], None, fetch["body"], MAX_PIXELS_PER_RECORD)]
    try:
        listed = json.loads(fetch["images"])
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        return [{"page_url": fetch["url"], "rule": "images_not_a_list"}]
    images, pixels_left = [], MAX_PIXELS_PER_RECORD
    for item in listed[:MAX_PICTURES_PER_RECORD]:
        images.append(_embedded(fetch["url"], item, pixels_left))
        pixels_left -= images[-1].get("width", 0) * images[-1].get("height", 0)
    if len(listed) > MAX_PICTURES_PER_RECORD:
        images.append({"page_url": fetch["url"], "rule": f"too_many_pictures:{len(listed)}"})
    return images


def _embedded(page_url: str, item: Any, max_pixels: int) -> dict[str, Any]:
    try:
        url = joined(page_url, str(item["url"]))
        if not url:
            raise ValueError(item["url"])
        return _image(url, page_url, base64.b64decode(item["data"], validate=True), max_pixels)
    except (TypeError, KeyError, ValueError, binascii.Error):
        return {"page_url": page_url, "rule": "image_unreadable"}


def _image(url: str, page_url: str | None, body: bytes | None, max_pixels: int) -> dict[str, Any]:
    size = pixels(body)
    if size is not None and size > max_pixels:
        return {"document_id": canonical_url(url), "page_url": page_url, "rule": f"too_many_pixels:{size}"}
    image = probe_image(body)
    if image is None:
        return {"document_id": canonical_url(url), "page_url": page_url, "rule": "image_undecodable"}
    return {
        "document_id": canonical_url(url),
        "page_url": page_url,
        "content_hash": hashlib.sha256(body or b"").hexdigest(),
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "bytes": len(body or b""),
        "body": body,
    }
