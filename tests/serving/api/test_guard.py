import asyncio
import json

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.api.guard import Guard


def guarded(seconds=5.0, in_flight=1):
    gate = asyncio.Event()

    async def slow(_):
        await asyncio.wait_for(gate.wait(), 10)
        return PlainTextResponse("done")

    async def free(_):
        gate.set()
        return PlainTextResponse("ok")

    routes = [Route("/slow", slow), Route("/fast", free), Route("/healthz", free)]
    return Guard(Starlette(routes=routes), in_flight, seconds, body_bytes=1_000)


async def asked(app, path):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, sent[1]["body"]


def test_more_requests_than_may_be_in_flight_are_told_to_come_again_but_health_is_answered():
    async def scenario():
        app = guarded()
        first = asyncio.create_task(asked(app, "/slow"))
        await asyncio.sleep(0.01)
        status, headers, body = await asked(app, "/fast")
        assert (status, headers["retry-after"], json.loads(body)["status"]) == (503, "1", 503)
        assert (await asked(app, "/healthz"))[0] == 200
        assert (await first)[0] == 200
        assert (await asked(app, "/fast"))[0] == 200

    asyncio.run(scenario())


def test_a_request_that_takes_too_long_is_given_up():
    status, headers, body = asyncio.run(asked(guarded(seconds=0.05), "/slow"))
    assert (status, headers["retry-after"]) == (503, "1")
    assert b"again" in body


@pytest.mark.parametrize("path", ["/fast", "/nothing"])
def test_every_answer_has_an_id_and_the_headers_of_security(path):
    answer = TestClient(guarded()).get(path)
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
