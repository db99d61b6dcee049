from datetime import UTC, date, datetime

import dagster as dg
import polars as pl
import pytest

from platform_assets import lookups
from platform_assets.reports.suitability import EVENTS, SCHEMA, SIGNALS, TABLE, impressions, suitability
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from signals.classify import DECISION
from signals.risks import RISK
from tests.support.graph import settled

MON, TUE = date(2026, 11, 9), date(2026, 11, 10)
TIME = pl.Datetime("us", "UTC")
EVENT = {
    "tenant_id": pl.String, "document_id": pl.String, "site": pl.String, "event_type": pl.String, "event_time": TIME,
    DAY: pl.Date,
}  # fmt: skip
TOPICS = pl.DataFrame(DECISION.empty_table()).schema["topics"]
SIGNAL = {
    "tenant_id": pl.String, "document_id": pl.String, "url": pl.String, "content_hash": pl.String, "fetched_at": TIME,
    "site": pl.String, "language": pl.String, "topics": TOPICS, "risks": pl.List(RISK), "risk": pl.String,
    "image_threat": pl.String, "image_threat_risk": pl.String, "keywords": pl.List(pl.String), DAY: pl.Date,
}  # fmt: skip


def at(day, hour):
    return datetime(2026, 11, day.day, hour, tzinfo=UTC)


def shown(document, hour, tenant="acme", kind="impression", day=MON):
    return {
        "tenant_id": tenant, "document_id": document, "site": "a.example", "event_type": kind,
        "event_time": at(day, hour), DAY: day,
    }  # fmt: skip


def signal(document, hour, risk, tenant="acme", day=MON, **more):
    return {
        "tenant_id": tenant, "document_id": document, "url": document, "content_hash": "h", "fetched_at": at(day, hour),
        "site": "a.example", "risk": risk, "topics": [], "risks": [], "keywords": [], DAY: day, **more,
    }  # fmt: skip


@pytest.fixture
def profiles(tmp_path):
    folder = tmp_path / "profiles"
    for name, told in {
        "acme/low": "risk: low",
        "acme/bold": "risk: high\nunknown: allow",
        "other/low": "risk: low",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(f"says: x\n{told}\n")
    return folder


@pytest.fixture
def lake(tmp_path):
    made = Lakehouse(uri=str(tmp_path / "lake"))
    put(made, EVENTS, EVENT, shown("a", 8), shown("a", 12), shown("b", 8), shown("c", 8), shown("a", 9, kind="click"))
    put(made, SIGNALS, SIGNAL, signal("a", 7, "none"), signal("a", 10, "high"), signal("b", 11, "low"))
    return made


def put(lake, table, schema, *rows):
    lake.replace_days(table, sorted({str(row[DAY]) for row in rows}), pl.DataFrame(rows, schema=schema))


def made(lake, profiles, tmp_path, *days):
    """Make some days of the table; return its rows without their digests."""
    with settled(tmp_path, suitability_profiles=profiles), dg.DagsterInstance.ephemeral() as instance:
        for day in days or (MON,):
            given = {"resources": {"lakehouse": lake}, "instance": instance, "partition_key": str(day)}
            assert dg.materialize([suitability], **given).success
    return lake.read(TABLE).sort(DAY, "tenant_id", "profile")


def test_each_profile_says_what_it_would_have_allowed_of_its_organisation(lake, profiles, tmp_path):
    rows = made(lake, profiles, tmp_path)
    assert rows.drop("profile_digest", "fault", DAY).rows() == [
        ("acme", "bold", 4, 1, 4, 1.0, []),
        (
            "acme",
            "low",
            4,
            1,
            2,
            0.5,
            [{"rule": "page_unknown", "impressions": 1}, {"rule": "risk_too_high", "impressions": 1}],
        ),
    ]
    assert rows.schema == SCHEMA
    assert rows["profile_digest"].n_unique() == 2


def test_signals_of_another_organisation_do_not_count(lake, profiles, tmp_path):
    put(lake, EVENTS, EVENT, shown("a", 12, tenant="other"))
    assert made(lake, profiles, tmp_path).select("tenant_id", "unknown", "allowed").rows() == [("other", 1, 0)]


def test_a_row_names_the_profile_that_made_it(lake, profiles, tmp_path):
    put(lake, EVENTS, EVENT, shown("a", 12), shown("a", 12, day=TUE))
    made(lake, profiles, tmp_path, MON)
    (profiles / "acme" / "low.yaml").write_text("says: x\nrisk: floor\n")
    rows = made(lake, profiles, tmp_path, TUE).filter(pl.col("profile") == "low")
    assert rows["allowed"].to_list() == [0, 1]
    assert rows["profile_digest"].n_unique() == 2


def test_a_faulty_profile_says_so_and_stops_no_other(lake, profiles, tmp_path):
    (profiles / "acme" / "low.yaml").write_text("risk: high")
    rows = made(lake, profiles, tmp_path)
    assert rows.select("profile", "fault", "impressions").rows() == [
        ("bold", None, 4),
        ("low", "profile acme/low: says: Field required", None),
    ]


def test_a_day_is_stale_once_the_signals_of_its_pages_change(lake, profiles, tmp_path):
    made(lake, profiles, tmp_path)
    put(lake, SIGNALS, SIGNAL, signal("z", 8, "high", day=TUE))
    lookups.invalidate(lake)
    assert stale_days(lake, TABLE, (EVENTS,)) == []
    put(lake, SIGNALS, SIGNAL, signal("b", 8, "floor", day=TUE))
    lookups.invalidate(lake)
    assert stale_days(lake, TABLE, (EVENTS,)) == [str(MON)]


def test_without_profiles_or_events_there_are_no_rows(lake, profiles, tmp_path):
    assert made(lake, tmp_path / "nowhere", tmp_path).is_empty()
    assert made(lake, profiles, tmp_path, TUE).is_empty()


def test_of_one_time_the_same_signals_are_taken_whatever_their_order():
    events = pl.DataFrame([shown("a", 9)], schema=EVENT)
    signals = pl.DataFrame(
        [signal("a", 8, risk, url=url) for url, risk in (("u", "low"), ("v", "high"))], schema=SIGNAL
    )
    for rows in (signals, signals.reverse()):
        assert impressions(events, rows)["record"].struct.field("risk").to_list() == ["high"]
