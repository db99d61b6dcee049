"""What those ask who run the server: whether it lives, whether it is ready, how it does, and what it answers."""

import asyncio
import os
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from markupsafe import Markup
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import HTMLResponse, Response

from governance.html import html_page
from resources.signal_store.entries import store_key
from serving.api.problems import documented, problem
from serving.api.state import state_of

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> dict[str, str]:
    """Answer, whatever the state of what the server depends on."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether requests should be sent here", responses=documented(503))
async def readyz(request: Request) -> dict[str, str]:
    """Answer 200 where the store can be read, the models are loaded, and the server is not about to stop."""
    state = state_of(request)
    if state.draining:
        raise problem(503, "The server is about to stop: send requests to another.", Retry_After="1")
    if state.decider is not None and state.decider.serving is None:
        raise problem(503, "The models are being loaded: try again.", Retry_After="2")
    try:
        await asyncio.to_thread(state.store.get_many, [store_key("", "")])
    except Exception:  # noqa: BLE001 - whatever a store raises, it cannot be read
        raise problem(503, "The signal store cannot be read: try again.", Retry_After="1") from None
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Figures"}},
)
async def metrics() -> Response:
    """Return the figures of all workers."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Return the API's documentation as a page that runs no script and fetches nothing."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(Path(__file__).with_name("docs.html").read_text("utf-8"))
    schema: dict[str, Any] = request.app.openapi()
    body = template.render(schema=schema, example=lambda name: _example(schema, name))
    style = Path(__file__).with_name("docs.css").read_text("utf-8")
    return HTMLResponse(html_page(schema["info"]["title"], Markup(body), style))  # noqa: S704 - escaped by the template


def _example(schema: dict[str, Any], reference: str) -> Any:
    examples = schema["components"]["schemas"][reference.rpartition("/")[2]].get("examples") or [None]
    return examples[0]
