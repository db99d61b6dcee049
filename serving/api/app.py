"""The app: its routes, what every request goes through, and what its requests share."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from resources.access_log import AccessLog
from resources.api_keys import api_keys
from resources.privacy_requests import PrivacyRequests
from resources.settings import Settings, settings
from resources.signal_store.stores import signal_store
from resources.workers.pool import WorkerPool
from serving.api import classify, decisions, openrtb, operations, privacy, reader, signals, sql, suitability
from serving.api.batching import Batcher
from serving.api.decider import Decider
from serving.api.guard import Guard
from serving.api.identity import SECURITY_SCHEME
from serving.api.observability import log_as_json, tracing
from serving.api.problems import Problem, handle_problems
from serving.api.rates import RateLimiter
from serving.api.state import ServerState
from signals.documents.addresses import site_of
from signals.taxonomies import COLUMNS, categories

# The routes of the API.
ROUTES = (signals, classify, decisions, openrtb, suitability, sql, privacy, operations)
# Processes that read documents, for each that answers.
READERS = 2
DESCRIPTION = """What is known of web pages before a bid, and answers about texts, pages and pictures on demand.

Every call but those of operations needs an API key: Authorization: Bearer KEY. Errors are problems (RFC 9457)."""


def create_app(configured: Settings | None = None) -> FastAPI:
    """Return the app of one server process.

    Args:
        configured: its settings; those of the process where none are given.
    """
    given = configured or settings()
    app = FastAPI(
        title="Seamless signal API",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.settings = given
    for part in ROUTES:
        app.include_router(part.router)
    handle_problems(app)
    traces = app.state.traces = tracing(given.otel_exporter_otlp_endpoint)
    limits = {"in_flight": given.api_in_flight, "seconds": given.api_seconds, "body_bytes": given.api_body_bytes}
    app.add_middleware(Guard, **limits, tracer=traces and traces.get_tracer("seamless.api"))
    declared = app.openapi

    def openapi() -> dict[str, Any]:
        schema = declared()
        schema["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        schema["components"]["securitySchemes"] = {"key": SECURITY_SCHEME}
        of_callers = (methods for path, methods in schema["paths"].items() if path.startswith("/v1/"))
        for operation in (operation for methods in of_callers for operation in methods.values()):
            operation["security"] = [{"key": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    given: Settings = app.state.settings
    log_as_json()
    decider = Decider(given) if given.api_models else None
    batcher, readers = Batcher(decider.decide if decider else _undecided), WorkerPool(reader.__name__, READERS)
    store, keys = signal_store(given), api_keys(given)
    await asyncio.to_thread(keys.start)
    # The list of public suffixes and the taxonomies take a while to load: no request waits for that.
    site_of("https://ready.example/")
    for cattax in COLUMNS:
        categories((), cattax)
    shared = (given, store, keys, RateLimiter(given.api_rate), decider, batcher, readers)
    of_tables = (AccessLog(given), PrivacyRequests(given.privacy_requests), asyncio.Semaphore(sql.AT_A_TIME))
    state = app.state.server = ServerState(*shared, *of_tables)
    if decider is not None:
        decider.start()
        batcher.start()
        await asyncio.to_thread(readers.start)
    try:
        yield
    finally:
        state.draining = True
        await batcher.close()
        await asyncio.to_thread(readers.close)
        if decider is not None:
            decider.close()
        store.close()
        await asyncio.to_thread(keys.close)
        if state.wanted is not None:
            state.wanted.close()
        if app.state.traces is not None:
            await asyncio.to_thread(app.state.traces.shutdown)


def _undecided(*_: Any) -> Any:
    raise RuntimeError("this server has no models")
