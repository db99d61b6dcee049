"""SQL over the tables as the key's role sees them: the sandbox of `seamless sql`, with less of everything."""

import asyncio
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from governance.access import AccessDeniedError
from resources.lakehouse.tables import lakehouse
from resources.query.sandbox import Limits
from resources.query.sandbox import query as run_query
from resources.query.statement import QueryError, shape_of, tables_of
from resources.signal_store.entries import encoded
from serving.api.identity import Caller, allowed
from serving.api.problems import documented, problem
from serving.api.state import ServerState, state_of

DOOR = "POST /v1/sql"
# Queries that one worker runs at a time, each in a process of its own, and what each may take.
AT_A_TIME = 2
SECONDS, CPU_SECONDS, MEMORY, ROWS = 20.0, 30, 1 << 30, 10_000
MAX_QUERY = 20_000
router = APIRouter(tags=["sql"], responses=documented(400, 401, 403, 413, 422, 429, 503))


class Query(BaseModel):
    """One SELECT over layer.table, in DuckDB's SQL."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"query": "SELECT site, risky_share FROM gold.site_brand_safety ORDER BY 2 DESC LIMIT 5"}]
        },
    )

    query: str = Field(min_length=1, max_length=MAX_QUERY, description="The query.")


class Column(BaseModel):
    """A column of an answer."""

    name: str
    type: str = Field(description="Its type, as Polars names it.")


class Rows(BaseModel):
    """The answer to a query."""

    columns: list[Column] = Field(description="Its columns.")
    rows: list[list[Any]] = Field(description=f"Its rows, at most {ROWS:,}, each a list of values.")


@router.post(
    "/v1/sql",
    summary="What the tables say, as far as the key's role sees them",
    response_class=Response,
    responses={200: {"model": Rows}},
)
async def post_sql(request: Request, caller: Annotated[Caller, Depends(allowed("sql"))], asked: Query) -> Response:
    """Run one SELECT over the rows of the caller's organisation. The question is recorded without its literals."""
    state = state_of(request)
    if state.queries.locked():
        raise problem(503)
    async with state.queries:
        try:
            rows = await asyncio.to_thread(_rows, state, caller, asked.query)
        except AccessDeniedError as error:
            raise problem(403, f"{error}.") from None
        except QueryError as error:
            raise problem(422, f"{error}.") from None
    columns = [{"name": name, "type": str(kind)} for name, kind in rows.schema.items()]
    return Response(encoded({"columns": columns, "rows": rows.rows()}), media_type="application/json")


def _rows(state: ServerState, caller: Caller, query: str) -> pl.DataFrame:
    limits = Limits(min(SECONDS, state.settings.api_seconds), CPU_SECONDS, MEMORY, ROWS)
    with state.access_log.recorded(caller.identity, DOOR, query, shape_of(query)) as answer:
        answer.tables = tables_of(query)
        tables = lakehouse(state.settings)
        rows = run_query(tables, query, as_role=caller.role, tenant=caller.tenant, limits=limits)
        answer.rows = rows.height
    return rows
