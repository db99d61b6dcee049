import gzip
import json
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from tests.serving.api.conftest import PAGE, served


def test_health_readiness_and_figures_need_no_key(server):
    client, header = server
    client.get("/v1/signals", params={"url": PAGE}, headers=header())
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    figures = client.get("/metrics").text
    assert 'seamless_requests_total{method="GET",route="/v1/signals",status="200"}' in figures
    assert PAGE not in figures


def test_a_server_that_is_about_to_stop_or_cannot_read_its_store_is_not_ready(server, monkeypatch):
    client, _ = server
    state = client.app.state.server
    monkeypatch.setattr(state, "draining", True)
    assert client.get("/readyz").status_code == 503
    monkeypatch.setattr(state, "draining", False)
    monkeypatch.setattr(state.store, "get_many", lambda _: 1 / 0)
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_the_documentation_shows_every_path_and_fetches_nothing(server):
    client, _ = server
    page, schema = client.get("/docs"), client.get("/openapi.json").json()
    assert page.status_code == 200
    assert all(path in page.text for path in schema["paths"])
    assert "Problem" in schema["components"]["schemas"]
    tags, links = [], []

    class Seen(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)
            links.extend(value for name, value in attrs if name in {"src", "href"})

    Seen().feed(page.text)
    assert "script" not in tags
    assert all(link.startswith("#") or link == "openapi.json" for link in links)


def test_the_log_names_route_and_key_and_neither_address_nor_secret(server, capsys):
    client, header = server
    key = header()
    client.get("/v1/signals", params={"url": f"{PAGE}?private=1"}, headers=key)
    logged = capsys.readouterr().err
    told = json.loads(logged.splitlines()[-1])
    assert (told["route"], told["status"]) == ("/v1/signals", 200)
    assert told["key_id"]
    assert "private" not in logged
    assert key["Authorization"].removeprefix("Bearer ") not in logged


def test_traces_go_to_the_endpoint_and_name_the_route_and_no_address(tmp_path):
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        with served(tmp_path, otel_exporter_otlp_endpoint=f"http://127.0.0.1:{collector.server_port}") as (
            client,
            header,
        ):
            client.get("/v1/signals", params={"url": f"{PAGE}?private=1"}, headers=header())
        collector.shutdown()
        thread.join()
    assert [path for path, _ in received] == ["/v1/traces"]
    assert b"GET /v1/signals" in received[0][1]
    assert b"private" not in received[0][1]
