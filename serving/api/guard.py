"""What every request goes through: an id, a place among those in flight, a time limit, headers, metrics, log, trace."""

import asyncio
import time
import uuid
from contextlib import nullcontext
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.problems import DETAILS, problem, problem_response

REQUESTS = Counter("seamless_requests", "Requests.", ["route", "method", "status"])
SECONDS = Histogram(
    "seamless_request_seconds",
    "Seconds from a request's first byte to its answer.",
    ["route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_FLIGHT = Gauge("seamless_requests_in_flight", "Requests in flight.", multiprocess_mode="livesum")
# What says whether the server lives is answered also where it has no time for more.
ALWAYS = ("/healthz", "/readyz", "/metrics")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "Strict-Transport-Security": "max-age=31536000",
}
log = structlog.get_logger("seamless.api")


class _Exchange:
    """One request and its answer: counts the bytes of the one, and adds headers to the other."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, body_bytes: int) -> None:
        self.scope, self._receive, self._send, self._body_bytes = scope, receive, send, body_bytes
        self.request_id, self.status, self._received = uuid.uuid4().hex, 0, 0

    async def receive(self) -> Message:
        """Return what comes next of the request.

        Raises:
            HTTPException: its body is too large.
        """
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._body_bytes:
            raise problem(413)
        return message

    async def send(self, message: Message) -> None:
        """Send what comes next of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def refuse(self, status: int) -> None:
        """Answer with a problem, unless an answer has begun."""
        if self.status == 0:
            wait = {"Retry-After": "1"} if status == 503 else {}
            await problem_response(status, DETAILS[status], wait)(self.scope, self.receive, self.send)


class Guard:
    """Middleware around the app.

    Args:
        app: what answers.
        in_flight: requests that are answered at a time; more are refused.
        seconds: a request that takes longer is given up.
        body_bytes: a larger body is refused.
        tracer: makes a span a request, where there is one.
    """

    def __init__(self, app: ASGIApp, in_flight: int, seconds: float, body_bytes: int, tracer: Any = None) -> None:
        self.app, self.most, self.seconds, self.body_bytes, self.tracer = app, in_flight, seconds, body_bytes, tracer
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, exchange = time.perf_counter(), _Exchange(scope, receive, send, self.body_bytes)
        span = self.tracer.start_as_current_span(scope["method"]) if self.tracer else nullcontext()
        self.in_flight += 1
        IN_FLIGHT.inc()
        with span as traced:
            try:
                error = await self._answer(exchange)
            finally:
                self.in_flight -= 1
                IN_FLIGHT.dec()
            seconds, route = time.perf_counter() - started, getattr(scope.get("route"), "path", "none")
            REQUESTS.labels(route, scope["method"], exchange.status).inc()
            SECONDS.labels(route).observe(seconds)
            if traced is not None:
                traced.update_name(f"{scope['method']} {route}")
                traced.set_attribute("http.response.status_code", exchange.status)
            _log(exchange, route, seconds, error)

    async def _answer(self, exchange: _Exchange) -> Exception | None:
        """Answer a request, or refuse it; return the error that it ended with."""
        scope = exchange.scope
        if self.in_flight > self.most and scope["path"] not in ALWAYS:
            await exchange.refuse(503)
            return None
        if int(Headers(scope=scope).get("content-length", "0")) > self.body_bytes:
            await exchange.refuse(413)
            return None
        try:
            async with asyncio.timeout(self.seconds):
                await self.app(scope, exchange.receive, exchange.send)
        except TimeoutError as error:
            await exchange.refuse(503)
            return error
        except Exception as error:  # noqa: BLE001 - the last resort: the log names it, and the client gets its id
            await exchange.refuse(500)
            return error
        return None


def _log(exchange: _Exchange, route: str, seconds: float, error: Exception | None) -> None:
    """Log a request: its route and its key's id, and neither its address nor its content."""
    scope = exchange.scope
    fields = {"request_id": exchange.request_id, "method": scope["method"], "route": route, "status": exchange.status}
    fields |= {"ms": round(seconds * 1000, 3), "key_id": scope.get("state", {}).get("key_id")}
    if error is None:
        log.info("request", **fields)
        return
    # The message of an error may quote what was sent; where it was raised does not.
    where, trace = "", error.__traceback__
    while trace is not None:
        where, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
    log.error("request", **fields, error=type(error).__name__, where=where)
