"""Requests of persons, to be erased or given what is kept: taken here, and carried out elsewhere."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from governance.access import AccessDeniedError
from resources.privacy_requests import Kind, PrivacyRequest
from serving.api.identity import Caller, allowed
from serving.api.problems import documented, problem
from serving.api.state import ServerState, state_of

DOOR = "POST /v1/privacy"
router = APIRouter(tags=["privacy"], responses=documented(400, 401, 403, 413, 422, 429, 503))


class Asked(BaseModel):
    """What is asked for a person."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"kind": "erase", "subject": "u-204"}]})

    kind: Kind = Field(description="`erase` what is kept about the person, or `export` it.")
    subject: str = Field(
        min_length=1, max_length=1_000, description="Id under which the organisation keeps the person."
    )


class Accepted(BaseModel):
    """A request as it stands."""

    id: str = Field(description="Names the request.")
    kind: Kind
    status: Literal["waiting", "done"] = Field(description="Whether it was carried out.")
    asked_at: AwareDatetime = Field(description="When it was taken.")
    finished_at: AwareDatetime | None = Field(description="When it was carried out.")
    report: dict[str, Any] | None = Field(description="The signed report of an erasure, or `rows_exported` by table.")


@router.post("/v1/privacy", status_code=202, summary="Have a person erased, or all that is kept exported")
async def post_privacy(
    request: Request, response: Response, caller: Annotated[Caller, Depends(allowed("privacy"))], asked: Asked
) -> Accepted:
    """Take a request, which `seamless privacy` carries out. Whom it is about is forgotten then."""
    try:
        taken = await asyncio.to_thread(_taken, state_of(request), caller, asked)
    except AccessDeniedError as error:
        raise problem(403, f"{error}.") from None
    response.headers["Location"] = f"/v1/privacy/{taken.id}"
    return _said(taken)


@router.get("/v1/privacy/{request_id}", summary="How far a request is", responses=documented(404))
async def get_privacy(
    request: Request,
    caller: Annotated[Caller, Depends(allowed("privacy"))],
    request_id: Annotated[str, Path(max_length=64, description="Id of the request.")],
) -> Accepted:
    """Return a request of the caller's organisation."""
    found = await asyncio.to_thread(state_of(request).privacy_requests.find, request_id, caller.tenant)
    if found is None:
        raise problem(404, "There is no such request of yours.")
    return _said(found)


def _taken(state: ServerState, caller: Caller, asked: Asked) -> PrivacyRequest:
    with state.access_log.recorded(caller.identity, DOOR, f"{asked.kind} {asked.subject}"):
        caller.identity.require(asked.kind)
        return state.privacy_requests.add(asked.kind, caller.tenant, asked.subject, caller.identity.name)


def _said(request: PrivacyRequest) -> Accepted:
    status = "waiting" if request.finished_at is None else "done"
    return Accepted(status=status, **request.model_dump(include={"id", "kind", "asked_at", "finished_at", "report"}))
