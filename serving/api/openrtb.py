"""Bid requests come back with what is known of their page or site, or as they came where their budget is spent."""

import asyncio
import time
from enum import IntEnum
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from resources.signal_store.look_up import Answer
from serving.api.identity import Caller, allowed
from serving.api.known import answers
from serving.api.problems import documented, problem
from serving.api.state import state_of
from signals.documents.openrtb import LARGEST, NotOpenRtbError
from signals.enrichment import BidRequest
from signals.taxonomies import CATTAX, COLUMNS

JSON = "application/json"
BUDGET_MS = 10.0
MAX_BYTES = 131_072
# What became of a request: see ``enrich``.
OUTCOME = "Seamless-Enriched"
REQUEST = {"id": "r1", "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}], "site": {"page": "https://example.org/a"}}
# Of OpenRTB, what is read here.
CONTENT = {"type": ["object", "null"], "properties": {"data": {"type": ["array", "null"]}}}
PLACE = {"type": ["object", "null"], "properties": {"content": CONTENT}}
NUMBER = {"type": "integer", "exclusiveMinimum": -LARGEST, "exclusiveMaximum": LARGEST}
ID = {"anyOf": [{"type": "string", "pattern": r"\S"}, NUMBER]}
IMP = {"type": "object", "required": ["id"], "properties": {"id": ID}}
SCHEMA = {
    "type": "object",
    "required": ["id", "imp"],
    "properties": {
        "id": ID,
        "imp": {"type": "array", "minItems": 1, "items": IMP, "description": "Their ids are distinct."},
        "site": PLACE,
        "app": PLACE,
    },
    "example": REQUEST,
}
Cattax = IntEnum("Cattax", {f"_{cattax}": cattax for cattax in COLUMNS})
NEWEST = Cattax(CATTAX)
router = APIRouter(tags=["openrtb"], responses=documented(400, 401, 403, 413, 422, 429, 503))


@router.post(
    "/v1/openrtb/enrich",
    summary="A bid request with what is known of its page",
    response_class=Response,
    responses={200: {"description": f"The request; {OUTCOME} is page, site, unknown or late.", "content": {JSON: {}}}},
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": SCHEMA}}}},
)
async def enrich(
    request: Request,
    caller: Annotated[Caller, Depends(allowed("openrtb"))],
    *,
    cattax: Annotated[Cattax, Query(description="Content taxonomy: 3.1, 3.0, 2.2 or 1.0.")] = NEWEST,
    pagecat: Annotated[bool, Query(description="Fill the pagecat of the site or app too.")] = False,
    budget_ms: Annotated[float, Query(gt=0, le=1_000, description="Milliseconds that it may take.")] = BUDGET_MS,
) -> Response:
    """Fill the content of the site or app of an OpenRTB 2.6 (or 2.5) bid request; all else is returned as sent.

    The header Seamless-Enriched says by what it was filled: page, or else site; unknown (by nothing) or late.
    """
    body = await request.body()
    deadline = time.perf_counter() + budget_ms / 1_000
    bid_request = _read(body)
    try:
        async with asyncio.timeout(deadline - time.perf_counter()):
            known = await _known(request, caller, bid_request.url)
    except TimeoutError:
        return _answer(body, "late")
    if known is None or known.status not in {"current", "site"}:
        return _answer(body, "unknown")
    of_page, signals = known.status == "current", msgspec.json.decode(known.signals)
    if of_page:
        enriched = bid_request.enriched(signals, int(cattax), pagecat=pagecat).encode()
    else:
        enriched = bid_request.enriched_by_site(signals, int(cattax)).encode()
    return _answer(body, "late") if time.perf_counter() > deadline else _answer(enriched, "page" if of_page else "site")


async def _known(request: Request, caller: Caller, url: str | None) -> Answer | None:
    if url is None:
        return None
    (answer,) = await answers(state_of(request), caller, [url], expired=False)
    return answer


def _read(body: bytes) -> BidRequest:
    if len(body) > MAX_BYTES:
        raise problem(413, f"the body has {len(body):,} bytes; send at most {MAX_BYTES:,}")
    try:
        return BidRequest(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise problem(400, "the body is not UTF-8; send a bid request as JSON") from None
    except NotOpenRtbError as error:
        raise problem(400, f"the body is no OpenRTB bid request: {error}") from None


def _answer(body: bytes, outcome: str) -> Response:
    return Response(body, media_type=JSON, headers={OUTCOME: outcome})
