"""Erasure of people from a small lakehouse that the graph has made, and what is left of them anywhere: nothing."""

import json
import shutil
from contextlib import closing
from itertools import count
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from pydantic import SecretStr

from governance import catalog
from governance.erasure import Subject
from platform_assets import bronze
from platform_assets.publishing import QUARANTINE
from platform_assets.silver import (
    ad_events,
    decisions,
    embeddings,
    images,
    labels,
    message_features,
    message_signals,
    messages,
    pages,
    rtb_auctions,
    user_sync,
)
from resources.decision_spool import DecisionSpool
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.privacy_requests import PrivacyRequests
from resources.registry.models import Registry
from resources.settings import settings
from sensors.materialize_stale import RANGE_END, RANGE_START
from serving.cli import erase as module
from serving.cli.erase import StillThereError, Work, erase, signed
from serving.cli.export import rows_to_export, write
from serving.cli.privacy import carry_out
from tests.support.bytes import files_with
from tests.support.graph import Graph

pytestmark = pytest.mark.slow

DAYS = ("2026-11-10", "2026-11-11")
MINE, OTHERS = [f"person-{n}" for n in range(1, 6)], [f"other-{n}" for n in range(1, 4)]
PEOPLE = [*MINE, *OTHERS]
TEXTS = {person: f"Tale of quokka {person.replace('-', '')}" for person in PEOPLE}
IMP = {"id": "1", "banner": {"w": 300, "h": 250}}
SITE = {"domain": "a.example", "page": "https://a.example/"}
FOLDERS = ("ad_events", "labels", "messages", "rtb_auctions", "user_sync", "users")
BRONZE = dg.load_assets_from_package_module(bronze)
SILVER = (
    ad_events.ad_events,
    decisions.decisions,
    embeddings.embeddings,
    images.images,
    labels.labels,
    message_features.message_features,
    message_signals.message_signals,
    messages.messages,
    pages.pages,
    rtb_auctions.rtb_auctions,
    user_sync.user_sync,
)


def at(day: str, hour: int) -> str:
    return f"{day}T{hour:02}:00:00Z"


def land(graph: Graph, name: str) -> None:
    """Have records of everybody land, of two days, in files of some name."""
    messages, users, syncs, events, auctions, labels = ([] for _ in FOLDERS)
    for number, person in enumerate(PEOPLE):
        users.append({"user_id": person, "handle": f"@{person}", "consent": True, "updated_at": at(DAYS[0], 1)})
        for day in DAYS:
            mark = f"{number}-{day}"
            text = f"{TEXTS[person]} {day}"
            messages.append({"message_id": f"m/{mark}", "author_id": person, "text": text, "sent_at": at(day, 8)})
            syncs.append(
                {"sync_id": f"s/{mark}", "user_id": person, "partner": "p", "consent": True, "synced_at": at(day, 9)}
            )
            events.append({"event_id": f"e/{mark}", "event_type": "impression", "event_time": at(day, 9)})
            events[-1] |= {"user_id": person, "impression_id": "i", "campaign_id": "c", "url": "https://a.example/"}
            request = {"id": f"a/{mark}", "imp": [IMP], "site": SITE, "user": {"id": person}}
            auctions.append({"auction_id": f"a/{mark}", "auction_time": at(day, 9), "request": request, "bids": []})
            labels.append({"label_id": f"l/{mark}", "task": "later", "label": "x", "document_id": f"m/{mark}"})
            labels[-1] |= {"labelled_at": at(day, 10), "text": text}
        messages.append({"message_id": None, "author_id": person, "text": f"{TEXTS[person]} broken"})
        messages.append({"message_id": f"q/{number}", "author_id": person, "sent_at": at(DAYS[0], 8), "text": ""})
    # Of two people alike: it stays as long as one of them does.
    for person in (MINE[0], OTHERS[0]):
        shared = {"message_id": f"m/{person[:5]}/shared", "author_id": person, "text": "Good morning"}
        messages.append(shared | {"sent_at": at(DAYS[0], 8)})
    events.append(events[-1] | {"event_id": "e/via", "via": MINE[0]})
    for folder, records in zip(FOLDERS, (events, labels, messages, auctions, syncs, users), strict=True):
        graph.land(f"{folder}/{name}.jsonl", records)


def make(graph: Graph) -> None:
    """Bring bronze and silver up to date, as a run of the graph does."""
    registry = Registry(tracking_uri=f"sqlite:///{graph.folder}/mlflow.db", artifacts="", cache="")
    resources = {"lakehouse": graph.lake, "encoder": Encoder(), "registry": registry}
    days = {RANGE_START: DAYS[0], RANGE_END: DAYS[-1]}
    instance = dg.DagsterInstance.ephemeral()
    for selection, tags in ((BRONZE, {}), (SILVER, days)):
        chosen = dg.AssetSelection.assets(*selection)
        ran = dg.materialize([*BRONZE, *SILVER], selection=chosen, resources=resources, instance=instance, tags=tags)
        assert ran.success


def answer(lake: Lakehouse) -> None:
    """Have a model that is gone have decided each message, and the authors' days be summed up."""
    messages = lake.read("silver/messages").with_columns(decision_id=pl.concat_str(pl.lit("d/"), "document_id"))
    for table in ("silver/decisions", "gold/audit_trail", "gold/psychosocial_daily"):
        columns = {*catalog.table(table).key, "tenant_id", "document_id", "content_hash", "event_date"}
        lake.append_once(table, messages.select(sorted(columns & {*catalog.table(table).classes})), {}, {})


@pytest.fixture(scope="module")
def made(tmp_path_factory, blank: Path) -> Graph:
    graph = Graph(tmp_path_factory.mktemp("erasure") / "graph")
    shutil.copy(blank, graph.folder / "mlflow.db")
    with graph.settled():
        land(graph, "first")
        make(graph)
    answer(graph.lake)
    return graph


@pytest.fixture
def graph(made: Graph, tmp_path, monkeypatch) -> Graph:
    """Return a copy of the graph, which an erasure has make again what is stale."""
    copy = Graph(tmp_path / "graph")
    shutil.copytree(made.folder, copy.folder, dirs_exist_ok=True)
    monkeypatch.setattr(module, "run", lambda _: make(copy))
    return copy


def rows_of(graph: Graph, without: list[str]) -> dict[str, list[str]]:
    """Return the rows of each table that name none of some people, whatever run made them."""
    tables = [table for table in catalog.tables() if graph.lake.exists(table) and not table.startswith("operations/")]
    tables.remove("silver/embeddings")  # a vector names nobody
    rows = {table: [str(row) for row in graph.read(table).iter_rows()] for table in tables}
    return {table: [row for row in of if not any(name in row for name in without)] for table, of in rows.items()}


def kept_files(graph: Graph, people: list[str]) -> list[str]:
    """Return the files, but those that landed, with an id or a text of some people."""
    found = files_with(graph.folder, [*people, *(TEXTS[person] for person in people)])
    return [line for line in found if not line.startswith("landing/")]


def test_five_people_leave_every_file_and_their_records_do_not_come_back(graph, monkeypatch):
    names = [*MINE, *(TEXTS[person] for person in MINE), "e/via", *(f"m/{n}-" for n in range(len(MINE))), "m/perso/"]
    before = rows_of(graph, names)
    assert len(kept_files(graph, MINE)) > 20 * len(MINE)
    with graph.settled():
        with monkeypatch.context() as patch:
            patch.setattr(module, "run", lambda _: None)
            for person in MINE[:-1]:
                erase(settings(), Subject(person))
        report = erase(settings(), Subject(MINE[-1]))
        assert kept_files(graph, MINE) == []
        assert rows_of(graph, names) == before
        texts = graph.lake.read("silver/messages")["content_hash"].unique()
        assert sorted(graph.lake.read("silver/embeddings")["content_hash"]) == sorted(texts)
        assert {"bronze/rtb_auctions", "silver/labels", "silver/quarantine"} <= {*report["rows_removed"]}
        assert report["rows_removed"]["silver/messages"] == 2
        assert report["sources_that_may_still_hold_them"] == sorted(f"{name}/first.jsonl" for name in FOLDERS)

        assert erase(settings(), Subject(MINE[-1])) == report
        land(graph, "again")
        make(graph)
    assert kept_files(graph, MINE) == []
    again = rows_of(graph, names)
    assert {table for table in before if before[table] != again[table]} <= {*catalog.names("bronze"), QUARANTINE}
    # What others delivered twice is there twice.
    twice = {table: 2 * len(before[table]) for table in catalog.names("bronze") if table in before}
    assert {table: len(again[table]) for table in twice} == twice


class KilledError(RuntimeError):
    """The process ends here."""


def dying(function, at):
    """Return a function that ends the process when it has been called so often."""
    calls = count(1)

    def die(*given, **named):
        done = function(*given, **named)
        if next(calls) == at:
            raise KilledError
        return done

    return die


@pytest.mark.parametrize(
    ("place", "name", "at"),
    [
        (Work, "suppress", 1),
        (Work, "mark_models", 1),
        (Lakehouse, "remove", 6),
        (Work, "remove", 1),
        (Work, "make_again", 1),
        (module, "purge", 9),
    ],
)
def test_a_killed_erasure_that_is_run_again_ends_the_same(graph, monkeypatch, erased_at_once, place, name, at):
    monkeypatch.setattr(module, "run", lambda _: None)
    with graph.settled():
        with monkeypatch.context() as patch:
            patch.setattr(place, name, dying(getattr(place, name), at))
            with pytest.raises(KilledError):
                erase(settings(), Subject(MINE[1]))
        report = erase(settings(), Subject(MINE[1]))
    rows, whole_report = erased_at_once
    assert kept_files(graph, [MINE[1]]) == []
    assert rows_of(graph, []) == rows
    assert report["rows_removed"] == whole_report["rows_removed"]


@pytest.fixture(scope="module")
def erased_at_once(made, tmp_path_factory):
    """Return the rows, and the report, of an erasure that nothing interrupts."""
    whole = Graph(tmp_path_factory.mktemp("whole") / "graph")
    shutil.copytree(made.folder, whole.folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, whole.settled():
        patch.setattr(module, "run", lambda _: None)
        report = erase(settings(), Subject(MINE[1]))
        return rows_of(whole, []), report


def test_rows_that_another_writer_brings_meanwhile_are_told_and_erased_by_the_next_run(graph, monkeypatch):
    late = graph.lake.read("silver/user_sync").filter(pl.col("user_id") == MINE[0])
    with graph.settled(), monkeypatch.context() as patch:
        patch.setattr(module, "run", lambda _: graph.lake.append_once("silver/user_sync", late, {}, {}))
        with pytest.raises(StillThereError, match="silver/user_sync"):
            erase(settings(), Subject(MINE[0]))
        patch.setattr(module, "run", lambda _: None)
        erase(settings(), Subject(MINE[0]))
    assert kept_files(graph, [MINE[0]]) == []


def test_decisions_of_the_api_about_what_they_wrote_leave_its_spool_too_before_they_land(graph, monkeypatch):
    monkeypatch.setattr(module, "run", lambda _: None)
    mine, other = f"m/0-{DAYS[0]}", f"m/{len(MINE)}-{DAYS[0]}"

    def decided(document):
        named = {"decision_id": f"d/{document}", "tenant_id": catalog.DEFAULT_TENANT}
        decision = named | {"document_id": document, "event_date": DAYS[0]}
        return named | {"asked_on": DAYS[0], "instruction_set": "any", "decision": decision}

    with graph.settled(), closing(DecisionSpool(settings().decision_spool)) as spool:
        spool.append([decided(mine), decided(other)])
        report = erase(settings(), Subject(MINE[0]))
        spool.append([decided(mine)])
        make(graph)
        assert graph.lake.read("bronze/api_decisions")["decision_id"].to_list() == [f"d/{other}"]
        assert report["rows_removed"]["bronze/api_decisions"] == 1
        assert not [name for name in report["sources_that_may_still_hold_them"] if "api_decisions" in name]
        erase(settings(), Subject(MINE[1]))
    assert not files_with(graph.folder / "decisions", [mine])
    assert not files_with(graph.folder / "lake" / "bronze" / "api_decisions", [mine])


def test_a_report_is_signed_and_any_change_shows():
    key = SecretStr("a key of the tests")
    report = signed({"rows_removed": {"a": 1}}, key)
    assert signed({"rows_removed": {"a": 1}}, key) == report
    assert signed({"rows_removed": {"a": 2}}, key)["signature"] != report["signature"]
    assert signed({"rows_removed": {"a": 1}}, None) == {
        "rows_removed": {"a": 1},
        "signature": None,
        "unsigned": "no key is set: ERASURE_KEY",
    }


def test_an_export_is_all_that_an_erasure_would_remove_and_nothing_of_others(graph, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "run", lambda _: None)
    with graph.settled():
        found = rows_to_export(settings(), Subject(MINE[0]))
        write(found, tmp_path / "out")
        report = erase(settings(), Subject(MINE[0]))
    # The event of another person that names the subject is erased, and not given away.
    counts = {table: rows.height for table, rows in found.items()}
    others = {table: rows - counts[table] for table, rows in report["rows_removed"].items() if rows != counts[table]}
    assert others == {"bronze/ad_events": 1}
    for table, rows in counts.items():
        lines = (tmp_path / "out" / f"{table.replace('/', '_')}.jsonl").read_text().splitlines()
        assert len([json.loads(line) for line in lines]) == rows
    assert files_with(tmp_path / "out", [TEXTS[MINE[0]]])
    assert files_with(tmp_path / "out", [*MINE[1:], *OTHERS]) == []


def test_a_request_of_the_api_erases_and_leaves_no_name_either(graph):
    with graph.settled():
        requests = PrivacyRequests(settings().privacy_requests)
        asked = requests.add("erase", "default", MINE[0], "key 1")
        (done,) = carry_out(settings())
        assert list(carry_out(settings())) == []
        assert requests.find(asked.id, "default") == done
    assert done.report["rows_removed"]["silver/messages"] == 3
    assert kept_files(graph, [MINE[0]]) == []
