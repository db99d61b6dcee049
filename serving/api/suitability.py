"""Whether pages suit an advertiser's profile, with all that speaks against them."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from governance.profiles import Profile, ProfileError, Verdict, judge
from resources import profiles
from serving.api.identity import Caller, allowed
from serving.api.known import records
from serving.api.problems import documented, problem
from serving.api.state import ServerState, state_of
from signals.documents.urls import MAX_LENGTH, hostname

MAX_URLS = 1_000
Url = Annotated[str, Field(max_length=MAX_LENGTH, description="Address of a page, as a browser shows it.")]
router = APIRouter(tags=["suitability"], responses=documented(400, 401, 403, 404, 413, 422, 429, 503))


class Judge(BaseModel):
    """Pages, and the profile that they are judged by."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"profile": "sports_shoes", "urls": ["https://news.example/a"]}]},
    )

    profile: str = Field(description="Name of a profile of the caller's organisation.")
    urls: list[Url] = Field(min_length=1, max_length=MAX_URLS, description="Addresses of the pages.")


class Reasoned(Verdict):
    """The verdict on a page: whether it is allowed, and the rules that speak against it."""

    url: str = Field(description="Its address as asked.")
    digest: str = Field(description="Digest of the profile that gave it.")


class Verdicts(BaseModel):
    """Verdicts on pages."""

    verdicts: list[Reasoned] = Field(description="One a page, in order.")


def profile_of(state: ServerState, caller: Caller, name: str) -> Profile:
    """Return a profile of the caller's organisation as it is now.

    Raises:
        ProblemError: 404 where there is none of this name, 503 where its file cannot be read.
    """
    try:
        found = profiles.profile(state.settings.suitability_profiles, caller.tenant, name)
    except ProfileError as error:
        raise problem(503, f"{error}; mend its file", Retry_After="60") from None
    if found is None:
        raise problem(404, "there is no such profile; it is a file ORGANISATION/NAME.yaml in SUITABILITY_PROFILES")
    return found


def reasoned(profile: Profile, url: str, record: Mapping[str, Any] | None) -> Reasoned:
    """Return the verdict on a page.

    Args:
        profile: the rules.
        url: address of the page.
        record: its consumer record; None where nothing is known of it.
    """
    verdict = judge(profile, record, hostname(url))
    return Reasoned(url=url, digest=profile.digest, allowed=verdict.allowed, reasons=verdict.reasons)


@router.post("/v1/suitability", summary="Whether pages suit an advertiser's profile")
async def suitability(
    request: Request, caller: Annotated[Caller, Depends(allowed("suitability"))], asked: Judge
) -> Verdicts:
    """Say of up to 1,000 pages whether they suit a profile, with the rules that speak against it."""
    state = state_of(request)
    profile = profile_of(state, caller, asked.profile)
    found = await records(state, caller, asked.urls)
    return Verdicts(verdicts=[reasoned(profile, *page) for page in zip(asked.urls, found, strict=True)])
