"""Look-up of signals by address."""

from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from resources.signal_store.entries import encoded
from resources.signal_store.look_up import Answer, Status
from serving.api.identity import Caller, allowed
from serving.api.known import answers
from serving.api.problems import documented
from serving.api.state import ServerState, state_of
from serving.api.suitability import MAX_URLS, Reasoned, Url, profile_of, reasoned
from signals.documents.urls import MAX_LENGTH

JSON = "application/json"
Expired = Annotated[bool, Field(description="Whether signals that hold no more are returned, marked.")]
ProfileName = Annotated[
    str | None, Field(description="Suitability profile of the caller's organisation that pages are judged by.")
]
router = APIRouter(tags=["signals"], responses=documented(401, 403, 404, 422, 429, 503))


class Topic(BaseModel):
    """A topic of the IAB Content Taxonomy 3.1."""

    model_config = ConfigDict(extra="allow")

    id: str


class Record(BaseModel):
    """The consumer record of a page (see the table gold/contextual_signals); of a site its first four fields."""

    model_config = ConfigDict(extra="allow")

    site: str | None = Field(None, description="Site of the page.")
    pages: int | None = Field(None, description="Pages that a site is known by.")
    risk: Literal["none", "low", "medium", "high", "unknown", "floor"] = Field(description="The worst risk.")
    topics: list[Topic] = Field(description="Topics, surest first; of a site the commonest, with their share.")


class Known(BaseModel):
    """What is known of one address."""

    url: str = Field(description="The address as asked.")
    status: Status = Field(
        description="`current` or `expired` signals of the page, else those of its `site`, else `unknown`."
    )
    document_id: str | None = Field(None, description="The page that is held.")
    as_of: AwareDatetime | None = Field(None, description="When the page was fetched.")
    expires_at: AwareDatetime | None = Field(None, description="Until when its signals hold.")
    age: int | None = Field(None, description="Seconds since the page was fetched.")
    signals: Record | None = Field(None, description="The signals; missing where nothing is known, which is not safe.")
    suitability: Reasoned | None = Field(None, description="Whether the page suits the profile that is asked for.")


class LookUp(BaseModel):
    """Addresses to look up."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"urls": ["https://news.example/a?utm_source=mail"]}]}
    )

    urls: list[Url] = Field(min_length=1, max_length=MAX_URLS, description="The addresses.")
    expired: Expired = True
    profile: ProfileName = None


class Found(BaseModel):
    """What is known of addresses."""

    answers: list[Known] = Field(description="One answer an address, in order.")


@router.get(
    "/v1/signals",
    summary="What is known of the page at an address",
    response_class=Response,
    responses={200: {"model": Known}, 304: {"description": "Nothing has changed since the ETag"}},
)
async def get_signals(
    request: Request,
    caller: Annotated[Caller, Depends(allowed("signals"))],
    url: Annotated[
        str, Query(max_length=MAX_LENGTH, description="Address of a page.", examples=["https://news.example/a"])
    ],
    *,
    expired: Annotated[bool, Query(description="Whether signals that hold no more are returned, marked.")] = True,
    profile: Annotated[str | None, Query(description="Suitability profile that the page is judged by.")] = None,
    if_none_match: Annotated[str | None, Header(description="ETags of answers that the caller holds.")] = None,
) -> Response:
    """Return the signals of a page under any of its addresses, else what is known of its site."""
    (answer,) = await _judged(state_of(request), caller, [url], profile, expired=expired)
    content = answer.status.encode() + bytes(answer.signals) + bytes(answer.suitability)
    etag = f'W/"{blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if if_none_match and (if_none_match.strip() == "*" or etag in map(str.strip, if_none_match.split(","))):
        return Response(status_code=304, headers=headers)
    return Response(encoded(answer), headers=headers, media_type=JSON)


@router.post(
    "/v1/signals/lookup",
    summary="What is known of the pages at many addresses",
    response_class=Response,
    responses={200: {"model": Found}, **documented(400, 413)},
)
async def post_lookup(
    request: Request, caller: Annotated[Caller, Depends(allowed("signals"))], asked: LookUp
) -> Response:
    """Return the signals of up to 1,000 pages, in order."""
    found = await _judged(state_of(request), caller, asked.urls, asked.profile, expired=asked.expired)
    return Response(encoded({"answers": found}), media_type=JSON)


async def _judged(
    state: ServerState, caller: Caller, urls: list[str], profile_name: str | None, *, expired: bool
) -> list[Answer]:
    """Return what is known of addresses, judged by a profile where one is named."""
    found = await answers(state, caller, urls, expired=expired)
    if profile_name is not None:
        profile = profile_of(state, caller, profile_name)
        for answer in found:
            record = msgspec.json.decode(answer.signals) if answer.status == "current" else None
            answer.suitability = msgspec.Raw(reasoned(profile, answer.url, record).model_dump_json().encode())
    return found
