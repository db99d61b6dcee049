"""One row is one distinct real-time auction, its OpenRTB request and bids reduced to what is analysed.

Key: auction_id. Grain: one auction. Prices in US dollars per thousand, latencies in milliseconds; ``market_price`` is
in the unit of a source that states none. Owner: ad-exchange.
"""

import json
from typing import Any

import dagster as dg
import polars as pl

from platform_assets.conventions import described
from platform_assets.publishing import begin
from platform_assets.tenants import DEFAULT_TENANT
from resources.lakehouse import Lakehouse
from signals.urls import address, site

TABLE = "silver/rtb_auctions"
INPUTS = ("bronze/rtb_auctions",)
# Beyond this, a price or a delay is none.
LARGEST = 1e12
FORMATS = ("banner", "video", "audio", "native")
BID = pl.Struct(
    {
        "bidder": pl.String,
        "status": pl.String,
        "no_bid_reason": pl.Int64,
        "latency_ms": pl.Int64,
        "price_cpm_usd": pl.Float64,
    }
)
SCHEMA = {
    "url": pl.String,
    "document_id": pl.String,
    "site": pl.String,
    "user_id": pl.String,
    "format": pl.String,
    "imps": pl.Int64,
    "floor_cpm_usd": pl.Float64,
    "timeout_ms": pl.Int64,
    "bids": pl.List(BID),
    "rule": pl.String,
}


@dg.asset(**described(TABLE, __doc__, owner="ad-exchange", inputs=INPUTS, rules=True))
def rtb_auctions(context: dg.AssetExecutionContext, lakehouse: Lakehouse) -> dg.MaterializeResult:
    """Read each auction's request and bids."""
    hop = begin(context, lakehouse, TABLE, INPUTS)
    received = lakehouse.read("bronze/rtb_auctions", hop.days)
    staged = opened(received)
    failed = pl.col("rule").is_not_null()
    return hop.publish(staged.filter(~failed).drop("rule"), broken=staged.filter(failed), rows_in=received.height)


def opened(received: pl.DataFrame) -> pl.DataFrame:
    """Return bronze auctions with what their JSON says, and ``rule`` where it is no OpenRTB."""
    found = [_auction(request, bids) for request, bids in received.select("request", "bids").iter_rows()]
    kept = received.drop("request", "bids").with_columns(
        auction_time=pl.coalesce("auction_time", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    rows = pl.concat([kept, pl.DataFrame(found, schema=SCHEMA)], how="horizontal", strict=True)
    return rows.sort("received_at", "source", "position")


def _auction(request: str | None, bids: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {}
    try:
        row |= {"bids": [_bid(bid) for bid in json.loads(bids)] if bids else []}
        return row | (_request(json.loads(request)) if request else {})
    except _NotOpenRtbError as error:
        return row | {"rule": str(error)}
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        return row | {"rule": "openrtb_malformed"}


class _NotOpenRtbError(ValueError):
    """A request breaks the rule that the message names."""


def _request(request: Any) -> dict[str, Any]:
    if not isinstance(request, dict) or not request.get("id"):
        raise _NotOpenRtbError("openrtb_request_without_id")
    imps = request.get("imp")
    if not isinstance(imps, list) or not imps:
        raise _NotOpenRtbError("openrtb_request_without_imp")
    ids = [imp.get("id") for imp in imps]
    if not all(ids) or len(set(ids)) != len(ids):
        raise _NotOpenRtbError("openrtb_imp_ids")
    formats = [name for name in FORMATS if imps[0].get(name) is not None]
    if not formats:
        raise _NotOpenRtbError("openrtb_imp_without_format")
    page = (request.get("site") or {}).get("page")
    user = request.get("user") or {}
    return {
        "url": page,
        "document_id": address(page) if page else None,
        "site": site(page) if page else None,
        "user_id": user.get("id") or user.get("buyeruid"),
        "format": formats[0],
        "imps": len(imps),
        "floor_cpm_usd": max(_number(imp.get("bidfloor") or 0.0, float) for imp in imps),
        "timeout_ms": _number(request["tmax"], int) if request.get("tmax") else None,
    }


def _bid(bid: dict[str, Any]) -> dict[str, Any]:
    price = _number(bid.get("price_cpm_usd"), float)
    if price is not None and price < 0:
        raise _NotOpenRtbError("bid_price_negative")
    for name in ("bidder", "status"):
        if not isinstance(bid.get(name), str | None):
            raise _NotOpenRtbError("openrtb_malformed")
    return {
        "bidder": bid.get("bidder"),
        "status": bid.get("status"),
        "no_bid_reason": _number(bid.get("no_bid_reason"), int),
        "latency_ms": _number(bid.get("latency_ms"), int),
        "price_cpm_usd": price,
    }


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    """Return a JSON number as an int or float that a column can hold, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
        raise _NotOpenRtbError("openrtb_malformed")
    return kind(value)
