"""Whether pages suit an advertiser's profile, with all that speaks against them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from governance.profiles import Profile, ProfileError, Verdict, judge
from resources import profiles
from serving.api.openrtb import Find
from signals.documents.urls import MAX_LENGTH, hostname
from signals.enrichment import Address

MAX_URLS = 1_000


class Asked(BaseModel):
    """Pages, and the profile that they are judged by."""

    profile: str = Field(examples=["family_brand"])
    urls: list[Annotated[str, Field(max_length=MAX_LENGTH)]] = Field(
        min_length=1, max_length=MAX_URLS, examples=[["https://example.org/a"]]
    )


class PageVerdict(Verdict):
    """The verdict on a page."""

    url: str


class Answered(BaseModel):
    """Verdicts in the order of the pages, and the digest of the profile that gave them."""

    profile: str
    digest: str
    verdicts: list[PageVerdict]


def profile_of(folder: Path, tenant: str, name: str) -> Profile:
    """Return a profile as it is now.

    Raises:
        HTTPException: 404 where the organisation has none of this name, 503 where its file cannot be read.
    """
    try:
        found = profiles.profile(folder, tenant, name)
    except ProfileError as error:
        raise HTTPException(503, f"{error}; mend its file") from None
    if found is None:
        raise HTTPException(
            404, "there is no such profile; it is a file ORGANISATION/NAME.yaml in SUITABILITY_PROFILES"
        )
    return found


def page_verdict(profile: Profile, url: str, record: Mapping[str, Any] | None) -> PageVerdict:
    """Return the verdict on a page.

    Args:
        profile: the rules.
        url: address of the page.
        record: its consumer record; None where nothing is known of it.
    """
    verdict = judge(profile, record, hostname(url))
    return PageVerdict(url=url, allowed=verdict.allowed, reasons=verdict.reasons)


def router(find: Find, tenant_of: Callable[[Request], str], folder: Path) -> APIRouter:
    """Return the route that judges pages.

    Args:
        find: looks pages up.
        tenant_of: names the organisation of a caller.
        folder: of the profiles.
    """
    routes = APIRouter(tags=["suitability"])

    @routes.post(
        "/v1/suitability",
        responses={
            400: {"description": "The body is no JSON."},
            404: {"description": "There is no such profile."},
            503: {"description": "The profile's file cannot be read."},
        },
    )
    async def suitability(request: Request, asked: Asked) -> Answered:
        """Say of up to 1,000 pages whether they suit a profile, with the rules that speak against it."""
        profile = profile_of(folder, tenant_of(request), asked.profile)
        records = await find(request, [Address(url, None) for url in asked.urls])
        verdicts = [page_verdict(profile, *page) for page in zip(asked.urls, records, strict=True)]
        return Answered(profile=asked.profile, digest=profile.digest, verdicts=verdicts)

    return routes
