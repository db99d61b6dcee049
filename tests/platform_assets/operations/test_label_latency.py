"""How long labels wait for a model that has seen them, through a real lake, registry and trainings."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from platform_assets.operations import label_latency as staleness
from platform_assets.operations.label_latency import SCHEMA, TABLE, changed, check, totals, waits
from resources.lakehouse.days import DAY
from tests.platform_assets.models.conftest import IRONY, answers, land

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
URL = "https://touchline.example/"


def seconds(*counts):
    return [NOON + timedelta(seconds=count) for count in counts]


def test_a_wait_ends_with_the_first_decision_or_is_still_open():
    landed = pl.Series(seconds(0, 10, 50), dtype=pl.Datetime("us", "UTC"))
    ended = waits(landed, NOON + timedelta(seconds=60), NOON + timedelta(days=1))
    assert (ended["labels"], ended["landed_first"], ended["landed_last"]) == (3, landed[0], landed[2])
    assert [ended[name] for name in staleness.WAITS] == [50, 60, 60, 10]
    still = waits(landed, None, NOON + timedelta(seconds=100))
    assert (still["decided_at"], still["seconds_max"]) == (None, 100)


def test_the_cost_counts_only_documents_of_both_that_have_another_answer():
    def answers(**labels):
        rows = [{"tenant_id": "t", "document_id": d, "content_hash": d, "label": of} for d, of in labels.items()]
        return pl.DataFrame(rows)

    events = pl.DataFrame(
        [
            {"document_id": "a", "event_type": "impression", "cost_usd": 0.25},
            {"document_id": "a", "event_type": "click", "cost_usd": None},
            {"document_id": "b", "event_type": "impression", "cost_usd": 4.0},
            {"document_id": "d", "event_type": "impression", "cost_usd": 8.0},
        ]
    )
    found = changed(answers(a="483", b="483", d="483"), answers(a="150", b="483", c="150"), events)
    assert found == {"compared": 2, "changed": 1, "impressions": 1, "spend_usd": 0.25}


def test_the_check_looks_at_each_tasks_newest_champion_and_at_no_first_one():
    def row(version, last, before=1, task="threat"):
        told = {"task": task, "model_version": version, "before_version": before, "seconds_last": last}
        return told | {"decided_at": NOON, "labels": 5, "seconds_max": last}

    def checked(*rows):
        return check(pl.DataFrame(rows, schema=SCHEMA))

    assert checked(row(1, 9_000, before=None), row(2, 500), row(3, 20)).passed
    late = checked(row(2, 20), row(3, 500.04), row(2, 100, task="hate"))
    assert (late.passed, late.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert late.metadata["late"].value == {"threat": 500.0}
    assert checked().passed
    waiting = {"task": "hate", "labels": 7, "seconds_max": 30.0, "impressions": 2}
    figures = totals(pl.DataFrame([row(3, 20), waiting], schema=SCHEMA))
    assert (figures["seconds_last"], figures["labels_waiting"], figures["waiting_seconds_max"]) == (20, 7, 30)


class Platform:
    """A lake, a registry, and what is done to them."""

    def __init__(self, lake, registry, encoder, materialised):
        self.lake, self.registry, self.encoder, self.materialised = lake, registry, encoder, materialised

    def decide(self, version, at, **labels):
        """Have a version answer pages."""
        rows = [
            {"decision_id": f"{name}-{version}", "tenant_id": "t", "document_id": URL + name, "content_hash": name}
            | {"model_name": f"{self.registry.environment}.irony", "model_version": version, "label": label}
            | {"decided_at": at, "traffic_arm": "champion", DAY: at.date()}
            for name, label in labels.items()
        ]
        self.lake.insert_missing("silver/decisions", pl.DataFrame(rows), ["decision_id"])

    def shown(self, name, at):
        """Have an advertisement be shown on a page."""
        row = {"event_id": f"{name}-{at}", "document_id": URL + name, "event_type": "impression", "event_time": at}
        self.lake.insert_missing(
            "silver/ad_events", pl.DataFrame([{**row, "cost_usd": 0.5, DAY: at.date()}]), ["event_id"]
        )

    def measure(self):
        """Materialise the table, and return its rows of the task and the check."""
        resources = {"lakehouse": self.lake, "registry": self.registry}
        ran = dg.materialize([staleness.label_latency], resources=resources)
        (verdict,) = ran.get_asset_check_evaluations()
        return self.lake.read(TABLE).filter(pl.col("task") == "irony").to_dicts(), verdict


@pytest.fixture
def platform(lake, registry, encoder, materialised):
    return Platform(lake, registry, encoder, materialised)


@pytest.mark.slow
def test_labels_wait_until_a_champion_that_has_seen_them_decides(platform):
    lake, now = platform.lake, datetime.now(UTC)
    old, late, fresh = (now - timedelta(seconds=ago) for ago in (90_000, 600, 60))
    land(lake, platform.encoder, answers(), old)
    platform.shown("a", old)
    platform.materialised(IRONY)
    platform.decide(1, now, a="irony", b="irony", c="irony")
    (first,), verdict = platform.measure()
    assert (first["model_version"], first["before_version"], first["labels"]) == (1, None, 40)
    assert first["seconds_max"] == pytest.approx(90_000)
    assert verdict.passed  # what was there before the first champion is no gap

    land(lake, platform.encoder, [one | {"text": f"{one['text']} Again."} for one in answers()], late)
    rows, _ = platform.measure()
    assert rows[0] == first
    assert (rows[1]["model_version"], rows[1]["labels"], rows[1]["decided_at"]) == (None, 40, None)
    assert 600 <= rows[1]["seconds_max"] < 700

    platform.materialised(IRONY)
    land(lake, platform.encoder, [answers()[0] | {"text": "Oh great, one more."}], fresh)
    (_, open_one, waiting), _ = platform.measure()
    assert (open_one["model_version"], open_one["before_version"], open_one["decided_at"]) == (2, 1, None)
    assert (waiting["model_version"], waiting["labels"]) == (None, 1)

    decided = datetime.now(UTC)
    platform.decide(2, decided, a="non_irony", b="irony", d="irony")
    platform.shown("a", late + timedelta(seconds=1))
    platform.shown("a", decided + timedelta(seconds=1))
    platform.shown("b", late + timedelta(seconds=1))
    (_, learnt, _), verdict = platform.measure()
    assert learnt["seconds_last"] == learnt["seconds_max"] == pytest.approx((decided - late).total_seconds())
    cost = (learnt["compared"], learnt["changed"], learnt["impressions"], learnt["spend_usd"])
    assert cost == (2, 1, 1, 0.5)
    assert (verdict.passed, verdict.metadata["late"].value.keys()) == (False, {"irony"})
