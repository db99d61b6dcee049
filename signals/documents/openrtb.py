"""An OpenRTB 2.6 request and the bids on it, reduced to what is analysed.

Whatever JSON says, the answer is a row of ``AUCTION``: with ``rule`` where it is no OpenRTB, never an exception.
"""

import json
from datetime import date
from typing import Any

import polars as pl

from signals.documents.currency import USD, Rates
from signals.documents.domains import domain
from signals.documents.privacy import request_consented
from signals.documents.urls import canonical_url, hostname

# Beyond this, a price or a delay is none.
LARGEST = 1e12
FORMATS = ("banner", "video", "audio", "native")
BID = pl.Struct(
    {
        "bidder": pl.String,
        "status": pl.String,
        "no_bid_reason": pl.Int64,
        "latency_ms": pl.Int64,
        "price_cpm": pl.Float64,
        "currency": pl.String,
        "price_cpm_usd": pl.Float64,
    }
)
AUCTION = {
    "url": pl.String,
    "document_id": pl.String,
    "site": pl.String,
    "app_bundle": pl.String,
    "user_id": pl.String,
    "format": pl.String,
    "imps": pl.Int64,
    "floor_cpm": pl.Float64,
    "floor_currency": pl.String,
    "floor_cpm_usd": pl.Float64,
    "timeout_ms": pl.Int64,
    "bids": pl.List(BID),
    "rule": pl.String,
}


class NotOpenRtbError(ValueError):
    """A request or a bid breaks the rule that the message names."""


def auction(
    request: str | None, bids: str | None, rates: Rates, day: date, vendor: int | None = None
) -> dict[str, Any]:
    """Return a row of ``AUCTION``; what is not told is missing in it.

    Args:
        request: an OpenRTB request as JSON; None or empty where the source has none.
        bids: a list of bids as JSON.
        rates: by which floors and prices of other currencies are given in US dollars.
        day: of the auction.
        vendor: our id in the Global Vendor List, for the consent of the person.
    """
    row: dict[str, Any] = {}
    try:
        row |= {"bids": [_bid(bid, rates, day) for bid in list_of(_parsed(bids))] if bids else []}
        return row | (_request(_parsed(request), rates, day, vendor) if request else {})
    except NotOpenRtbError as error:
        return row | {"rule": str(error)}


def impressions(request: Any) -> list[dict[str, Any]]:
    """Return the impressions of a request.

    Raises:
        NotOpenRtbError: it is no request, or its impressions cannot be told apart.
    """
    if not isinstance(request, dict) or not _id(request.get("id")):
        raise NotOpenRtbError("openrtb_request_without_id")
    imps = request.get("imp")
    if not isinstance(imps, list) or not imps:
        raise NotOpenRtbError("openrtb_request_without_imp")
    imps = [object_of(imp) for imp in imps]
    ids = [_id(imp.get("id")) for imp in imps]
    if not all(ids) or len(set(ids)) != len(ids):
        raise NotOpenRtbError("openrtb_imp_ids")
    return imps


def list_of(value: Any) -> list[Any]:
    """Return a list, an empty one where nothing is said.

    Raises:
        NotOpenRtbError: it is something else.
    """
    if not isinstance(value, list | None):
        raise NotOpenRtbError("openrtb_malformed")
    return value or []


def object_of(value: Any) -> dict[str, Any]:
    """Return an object, an empty one where nothing is said.

    Raises:
        NotOpenRtbError: it is something else.
    """
    if not isinstance(value, dict | None):
        raise NotOpenRtbError("openrtb_malformed")
    return value or {}


def _request(request: Any, rates: Rates, day: date, vendor: int | None) -> dict[str, Any]:
    imps = impressions(request)
    formats = [name for name in FORMATS if imps[0].get(name) is not None]
    if not formats:
        raise NotOpenRtbError("openrtb_imp_without_format")
    user, app = object_of(request.get("user")), object_of(request.get("app"))
    if request_consented(request, vendor) is False:
        user = {}
    return {
        **_place(object_of(request.get("site"))),
        "app_bundle": _id(app.get("bundle")),
        "user_id": _id(user.get("id")) or _id(user.get("buyeruid")),
        "format": formats[0],
        "imps": len(imps),
        **_floor(imps, rates, day),
        "timeout_ms": _number(request.get("tmax"), int) or None,
    }


def _place(told: dict[str, Any]) -> dict[str, Any]:
    """Return the page and the site; a site is named by its page, or else by its domain."""
    page, named = _text(told.get("page")), domain(_text(told.get("domain")))
    host = hostname(page) if page else ""
    return {"url": page, "document_id": canonical_url(page) if page else None, "site": host or named}


def _floor(imps: list[dict[str, Any]], rates: Rates, day: date) -> dict[str, Any]:
    """Return the highest floor, as it is stated and in US dollars.

    Floors of several currencies are compared in US dollars. Where one of them has no rate, nobody knows the highest.
    """
    stated = [(_number(imp.get("bidfloor"), float) or 0.0, _currency(imp.get("bidfloorcur"))) for imp in imps]
    in_usd = [rates.in_usd(*floor, day) for floor in stated]
    known = [(usd, *floor) for usd, floor in zip(in_usd, stated, strict=True) if usd is not None]
    if len(known) == len(stated):
        usd, amount, currency = max(known)
        return {"floor_cpm": amount, "floor_currency": currency, "floor_cpm_usd": usd}
    amount, currency = max(stated)
    one = len({currency for _, currency in stated}) == 1
    return {"floor_cpm": amount if one else None, "floor_currency": currency if one else None}


def _bid(told: Any, rates: Rates, day: date) -> dict[str, Any]:
    """Return a bid. Its price is in the currency that it states, whatever the field is named; else in US dollars."""
    if not isinstance(told, dict):
        raise NotOpenRtbError("openrtb_malformed")
    given = "price_cpm" if told.get("price_cpm") is not None else "price_cpm_usd"
    price, currency = _number(told.get(given), float), _currency(told.get("cur"))
    if price is not None and price < 0:
        raise NotOpenRtbError("bid_price_negative")
    return {
        "bidder": _text(told.get("bidder")),
        "status": _text(told.get("status")),
        "no_bid_reason": _number(told.get("no_bid_reason"), int),
        "latency_ms": _number(told.get("latency_ms"), int),
        "price_cpm": price,
        "currency": None if price is None else currency,
        "price_cpm_usd": rates.in_usd(price, currency, day),
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NotOpenRtbError("openrtb_malformed") from None


def _text(value: Any) -> str | None:
    """Return a string that a column can hold, None of a blank one; half a surrogate pair becomes ``?``."""
    if not isinstance(value, str | None):
        raise NotOpenRtbError("openrtb_malformed")
    return None if value is None or not value.strip() else value.encode("utf-8", "replace").decode("utf-8")


def _id(value: Any) -> str | None:
    """Return an id. The standard wants a string; some write a number."""
    return _text(str(_number(value, int)) if isinstance(value, int) else value)


def _currency(value: Any) -> str:
    """Return a currency; where none is stated, OpenRTB says that it is the US dollar."""
    return (_text(value) or USD).strip().upper()


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    """Return a JSON number as an int or float that a column can hold, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
        raise NotOpenRtbError("openrtb_malformed")
    return kind(value)
