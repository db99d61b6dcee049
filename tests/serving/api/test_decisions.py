"""The record of a decision, asked of a server of a test's own."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from governance import catalog
from resources.audit_trail import DECISIONS, TRAIL
from resources.lakehouse.tables import Lakehouse
from serving.api.decisions import Recorded
from tests.serving.api.conftest import served

OURS, THEIRS, FRESH = "a" * 32, "b" * 32, "c" * 32
NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)
SAID = {
    "event_date": date(2026, 11, 12), "decided_at": NOON, "document_id": "https://a.example/x", "task": "threat",
    "label": "none", "scores": [{"label": "none", "score": 0.8}], "model_name": "dev.threat", "model_version": 3,
    "model_digest": "d", "transform_id": "t", "promoted_by": "ada",
}  # fmt: skip


@pytest.fixture
def server(tmp_path):
    rows = [SAID | {"decision_id": name, "tenant_id": of} for name, of in ((OURS, "harbour"), (THEIRS, "acme"))]
    undeclared = {"note": "of engineers only"}
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    lake.replace_all(TRAIL, pl.DataFrame([row | undeclared for row in rows]))
    fresh = [SAID | {"decision_id": FRESH, "tenant_id": "harbour"}]
    lake.replace_all(DECISIONS, pl.DataFrame(fresh).drop("promoted_by"))
    with served(tmp_path, lakehouse_uri=lake.uri) as (client, header):
        yield client, header


def test_an_organisation_is_told_of_its_own_decision(server):
    client, header = server
    answer = client.get(f"/v1/decisions/{OURS}", headers=header(role="support"))
    assert answer.status_code == 200
    told = answer.json()
    Recorded.model_validate(told)
    assert set(told) == set(catalog.table(TRAIL).classes)
    assert (told["promoted_by"], told["scores"], told["tenant_id"]) == ("ada", SAID["scores"], "harbour")


@pytest.mark.parametrize("name", [THEIRS, "d" * 32, "x", "..%2F", "A" * 32])
def test_what_is_not_theirs_is_not_there(server, name):
    client, header = server
    answer = client.get(f"/v1/decisions/{name}", headers=header(role="support"))
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_key_needs_the_scope_and_a_role_that_reads_decisions(server):
    client, header = server
    for key in (header(role="support", scopes=("signals",)), header(role="decisioning")):
        assert client.get(f"/v1/decisions/{OURS}", headers=key).status_code == 403
    assert client.get(f"/v1/decisions/{OURS}").status_code == 401


def test_a_decision_whose_training_is_not_recorded_yet_is_asked_for_later(server):
    client, header = server
    answer = client.get(f"/v1/decisions/{FRESH}", headers=header(role="support"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
