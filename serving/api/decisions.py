"""The record of a decision: what was decided, by what, trained on what, promoted by whom."""

import asyncio
from datetime import date
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Depends, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from governance.access import AccessDeniedError, View
from resources import audit_trail
from resources.audit_trail import DECISION_ID, TRAIL, UnknownDecisionError, visible
from resources.lakehouse.reading import TableMissingError
from resources.lakehouse.tables import lakehouse
from resources.signal_store.entries import encoded
from serving.api.identity import Caller, allowed
from serving.api.problems import documented, problem
from serving.api.state import ServerState, state_of

router = APIRouter(tags=["decisions"], responses=documented(401, 403, 404, 422, 429, 503))


class Recorded(BaseModel):
    """A row of the table gold/audit_trail."""

    model_config = ConfigDict(extra="allow")

    decision_id: str = Field(description="Id of the decision.")
    document_id: str = Field(description="The page, message or picture.")
    event_date: date = Field(description="Its day (UTC).")
    task: str = Field(description="What was asked.")
    label: str | None = Field(description="The answer; null where `abstention` says why there is none.")
    model_name: str = Field(description="Registered name of the model.")
    model_version: int = Field(description="Its version.")
    model_digest: str = Field(description="Digest of its files.")
    transform_id: str = Field(description="Identity of the transformation under which it answered.")
    decided_at: AwareDatetime = Field(description="When it answered.")


@router.get(
    "/v1/decisions/{decision_id}",
    summary="What was decided, by what, trained on what, promoted by whom",
    response_class=Response,
    responses={200: {"model": Recorded}},
)
async def get_decision(
    request: Request,
    caller: Annotated[Caller, Depends(allowed("decisions"))],
    decision_id: Annotated[str, Path(max_length=64, description="Id of the decision, as signals and answers name it.")],
) -> Response:
    """Return the record of a decision about a document of the caller's organisation."""
    try:
        seen = visible(caller.role, caller.tenant)
        if not DECISION_ID.fullmatch(decision_id):
            raise UnknownDecisionError(decision_id)
        rows = await asyncio.to_thread(_record, state_of(request), caller, decision_id, seen)
    except AccessDeniedError:
        raise problem(403, "The key's role may not read decisions: ask for a key of a role that may.") from None
    except UnknownDecisionError:
        raise problem(404, "There is no such decision about a document of yours.") from None
    except TableMissingError:
        raise problem(503, "Training and promotion are not recorded yet: try again.", Retry_After="60") from None
    record: dict[str, Any] = rows.to_dicts()[0]
    return Response(encoded(record), media_type="application/json")


def _record(state: ServerState, caller: Caller, decision_id: str, seen: View) -> pl.DataFrame:
    with state.access_log.recorded(caller.identity, "GET /v1/decisions", decision_id) as answer:
        answer.tables = [TRAIL]
        rows = audit_trail.decision(lakehouse(state.settings), decision_id, seen)
        answer.rows = rows.height
    return rows
