"""Errors as problems (RFC 9457): what is wrong, and what to do about it. None repeats what was sent."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from resources.access_log import AccessLogError
from resources.write_once import WriteOnceError

MEDIA_TYPE = "application/problem+json"
MAX_FAULTS = 3
DETAILS = {
    400: "The request cannot be read: send JSON in UTF-8, as /docs shows.",
    404: "There is no such path: /docs lists those that there are.",
    405: "The path has no such method: the header Allow lists those that it has.",
    408: "The request took too long: send less at a time.",
    413: "The body is too large: send less at a time.",
    415: "The body must be JSON: send the header Content-Type: application/json.",
    500: "The fault is ours, and is logged under the id in X-Request-Id: try again, and tell us the id.",
    503: "The server is busy: try again after the seconds that Retry-After names.",
}


class Problem(BaseModel):
    """An error."""

    type: str = Field("about:blank", description="The kind of problem; about:blank is the one of the status.")
    title: str = Field(description="The status in words.", examples=["Unauthorized"])
    status: int = Field(description="The HTTP status.", examples=[401])
    detail: str = Field(description="What is wrong, and what to do.")


class ProblemError(HTTPException):
    """A problem that a route raises, whose detail says what to do; those of the framework often do not."""


def problem(status: int, detail: str | None = None, **headers: str) -> ProblemError:
    """Return an exception that becomes a problem, with headers whose names have ``_`` for ``-``."""
    return ProblemError(status, detail or DETAILS[status], {n.replace("_", "-"): v for n, v in headers.items()})


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem as the response that a client gets."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(json.dumps(content), status, dict(headers or {}), MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems of a route, as OpenAPI declares them."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses}


async def _of_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    detail = error.detail if isinstance(error, ProblemError) else DETAILS.get(error.status_code, error.detail)
    return problem_response(error.status_code, detail, error.headers)


async def _of_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    faults = error.errors()
    shown = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults[:MAX_FAULTS])
    more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
    return problem_response(422, f"{shown}{more}. /docs shows what is expected.")


async def _unrecorded(*_: Any) -> Response:
    """Nothing is answered of which no record can be kept."""
    return problem_response(503, "Access cannot be recorded: tell who runs the server.", {"Retry-After": "60"})


def handle_problems(app: FastAPI) -> None:
    """Have all errors of an app, also those of the framework, become problems."""
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    for unrecorded in (AccessLogError, WriteOnceError):
        app.add_exception_handler(unrecorded, _unrecorded)
