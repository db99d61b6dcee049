"""Nasty values in every field of every folder, through the whole graph: no run fails, and every record is somewhere."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.place import create_topics, produce
from governance import catalog
from platform_assets.bronze import SCHEMAS
from platform_assets.parsing import SourceSchema
from serving.stream.pipelines import PIPELINES
from tests.support.graph import Graph

pytestmark = pytest.mark.slow

NASTY = [
    None, "", " ", "\x00", "\ud800", "a" * 70_000, "https://a.example/" + "b" * 70_000, "' OR 1=1 --",
    "<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "NaN", "null", 0, -1, 1e308, 5e-324, 2**63, -(2**70), float("nan"),
    float("inf"), True, False, [], {}, [None], ["a", "b"], {"a": {"b": []}}, [[[[]]]], "2026-13-45T99:99:99Z",
    "0000-00-00", "9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "\u202e\u200b\u2066",
    "🏳️‍🌈" * 50, "http://[::1", "https://xn--/",
    "javascript:alert(1)", "//host/path", "https://h:99999/", "%FF%00%", "../../etc/passwd", "\n\r\t",
    "=cmd|' /C calc'!A0",
    "ﷺ" * 100, "e\u0301" * 500, "[" * 300,
]  # fmt: skip
HTML = "<html><head><title>Harbour opens</title></head><body><article><p>{}</p></article></body></html>"
TEXT = "The council opened the new bridge this morning, and many people came to see it. "
WHOLE = {
    "pages": {"url": "https://a.example/{}", "fetched_at": "2026-11-10T08:00:00Z", "html": HTML.format(TEXT * 3)},
    "messages": {"message_id": "m-{}", "author_id": "u-1", "text": TEXT, "sent_at": "2026-11-10T08:00:00Z"},
    "users": {"user_id": "u-{}", "updated_at": "2026-11-10T08:00:00Z", "consent": True, "country": "FR"},
    "labels": {
        "label_id": "l-{}",
        "task": "sentiment",
        "label": "positive",
        "text": TEXT + "{}",
        "split": "train",
        "labelled_at": "2026-11-10T08:00:00Z",
    },
    "ad_events": {
        "event_id": "e-{}",
        "event_type": "impression",
        "event_time": "2026-11-10T09:00:00Z",
        "cost_usd": 0.1,
        "impression_id": "i-{}",
        "campaign_id": "c-1",
        "url": "https://a.example/whole",
    },
    "inventory": {
        "snapshot_id": "s-{}",
        "observed_at": "2026-11-10T08:00:00Z",
        "url": "https://a.example/whole",
        "placement_id": "top",
        "avails": 3,
        "filled": 2,
    },
    "rtb_auctions": {
        "auction_id": "a-{}",
        "auction_time": "2026-11-10T08:00:00Z",
        "bids": [{"bidder": "b", "status": "bid"}],
        "request": {"id": "r", "imp": [{"id": "1", "banner": {}}], "site": {"page": "https://a.example/whole"}},
    },
    "user_sync": {
        "sync_id": "y-{}",
        "synced_at": "2026-11-10T08:00:00Z",
        "user_id": "u-1",
        "partner": "p",
        "status": "matched",
    },
}
REQUEST = ("id", "imp", "site", "app", "user", "tmax", "cur", "regs", "device")


def records(expected: SourceSchema) -> list[dict]:
    """Return a whole record, and for every field and nasty value one that has it there."""
    whole = WHOLE[expected.folder]
    found = [named(whole, "whole")]
    for field in (*expected.columns, "undeclared_field", "source", "position", "event_date", "document_id", "rule"):
        for number, value in enumerate(NASTY):
            found.append(named(whole, f"{field}-{number}") | {field: value})
    if expected.folder == "rtb_auctions":
        for field in REQUEST:
            for number, value in enumerate(NASTY):
                request = whole["request"] | {field: value}
                found.append(named(whole, f"request-{field}-{number}") | {"request": request})
                found.append(
                    named(whole, f"nested-{field}-{number}") | {"request": whole["request"] | {"site": {field: value}}}
                )
                found.append(named(whole, f"bid-{field}-{number}") | {"bids": [{field: value, "bidder": value}]})
    if expected.folder == "pages":
        for number, value in enumerate(NASTY):
            linked = json.dumps({"@type": "NewsArticle", "headline": value, "datePublished": value, "author": value})
            html = whole["html"].replace("<head>", f'<head><script type="application/ld+json">{linked}</script>')
            found.append(named(whole, f"linked-{number}") | {"html": html})
            found.append(named(whole, f"pictures-{number}") | {"images": [{"url": value, "data": value}, value]})
    return found


def named(record: dict, name: str) -> dict:
    """Return a record with a name of its own."""
    return {
        field: value.format(name) if isinstance(value, str) and field != "html" else value
        for field, value in record.items()
    }


def accounted(graph: Graph, landed: Mapping[str, Sequence[Any]]) -> None:
    """Assert that every record is a row or quarantined, table by table, and that every key holds."""
    lost = dict(graph.lake.read("silver/quarantine").group_by("table").len().rows())
    for table, rows in landed.items():
        assert graph.lake.count(table) + lost.get(table, 0) == len(rows), table
    for name in ("ad_events", "inventory", "rtb_auctions", "user_sync"):
        read, made = graph.lake.count(f"bronze/{name}"), graph.lake.count(f"silver/{name}")
        assert read == made + lost.get(f"silver/{name}", 0), name
    for table in graph.tables():
        key = list(catalog.table(table).key)
        assert graph.lake.read(table).select(pl.struct(key).is_duplicated().sum()).item() == 0, table


def test_no_value_of_any_field_stops_the_graph_or_is_lost(home: Path, tmp_path: Path):
    graph = Graph(tmp_path, home)
    landed = {expected.table: records(expected) for expected in SCHEMAS if expected.folder in WHOLE}
    for expected in SCHEMAS:
        graph.land(f"{expected.folder}/nasty.jsonl", landed.get(expected.table, []))
    for number, value in enumerate(NASTY):
        for name, body in (
            ("ads.txt", str(value)),
            ("sellers.json", json.dumps({"sellers": [value, {"domain": value}]})),
        ):
            file = graph.landing / "supply_chain" / f"n{number}.example" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body.encode("utf-8", "surrogatepass"))
    report = graph.run()
    assert [check for check in report.failed_checks if "rules" not in check] == []
    accounted(graph, landed)
    assert "whole" in graph.lake.read("gold/contextual_signals")["document_id"].str.split("/").list.last()
    assert "e-whole" in graph.lake.read("silver/ad_events")["event_id"]
    assert graph.lake.read("reports/risk_analysis").height
    versions = {table: graph.lake.version(table) for table in graph.tables() if not table.startswith("bronze/")}
    graph.run()
    assert {table: graph.lake.version(table) for table in versions} == versions


def test_no_value_of_any_field_stops_the_stream_or_is_lost(home: Path, tmp_path: Path, broker: str):
    graph = Graph(tmp_path, home, broker)
    landed = {pipeline.bronze.table: records(pipeline.bronze)[::3] for pipeline in PIPELINES}
    create_topics(broker, [pipeline.topic for pipeline in PIPELINES])
    produced = [
        (pipeline.topic, json.dumps(one).encode()) for pipeline in PIPELINES for one in landed[pipeline.bronze.table]
    ]
    produce(broker, produced)
    graph.stream()
    accounted(graph, landed)
    graph.run()
    accounted(graph, landed)
