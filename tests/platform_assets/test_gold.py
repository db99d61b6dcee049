"""The gold tables: dbt itself, run by Dagster on small silver tables in Delta, against figures worked out by hand."""

import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from platform_assets.gold.tables import gold_tables
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from signals.consumer_record import PROVENANCE
from signals.risks import with_risk

pytestmark = pytest.mark.slow

ONE, TWO, THREE = "2026-03-01", "2026-03-02", "2026-03-03"
GOLD = gold_tables()
INPUTS = {key.path[-1]: GOLD.specs_by_key[key].metadata["inputs"] for key in GOLD.keys}


def at(moment: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-{moment}:00").replace(tzinfo=UTC)


PAGE = {
    "site": "a.example", "tenant_id": "t", "language": "en", "title": "Title", "keywords": ["old bells", "tower"],
    "iab_category": "596", "iab_category_name": "Technology", "iab_category_score": 0.9, "threat": "none",
    "threat_name": "None", "threat_risk": "low", "threat_score": 0.8, "sentiment": "positive", "emotion": "joy",
    "toxicity": "not-offensive", "toxicity_score": 0.7, "hate": "not-hate", "image_threat": None,
    "image_threat_risk": None,
}  # fmt: skip
UNKNOWN = {name: None for name in PAGE if name not in ("site", "tenant_id", "language", "title", "keywords")}
NEWS = {"iab_category": "379", "iab_category_name": "News", "sentiment": "negative"}


def page(document: str, moment: str, content: str, **said: Any) -> dict[str, Any]:
    named = {"document_id": document, "url": f"{document}?from=feed", "fetched_at": at(moment), "content_hash": content}
    return PAGE | named | said


PAGES = [
    page("https://a.example/1", "01 08:00", "h1"),
    page("https://a.example/2", "01 08:00", "h2", **NEWS, threat="crime", threat_risk="high"),
    page(
        "https://a.example/2", "01 20:00", "h3", **NEWS, threat="death_injury", threat_name="Death and injury",
        threat_risk="medium", image_threat="adult", image_threat_risk="floor",
    ),
    page("https://b.example/3", "01 09:00", "h4", **UNKNOWN, site="b.example", keywords=[]),
    page("https://a.example/1", "02 07:00", "h5", threat="arms", threat_name="Arms", threat_risk="high"),
]  # fmt: skip

MESSAGE = {
    "author_id": "u1", "author_consents": True, "tenant_id": "t", "sentiment": "positive", "emotion": "joy",
    "toxicity": "not-offensive", "hate": "not-hate", "irony": "non_irony", "risky": False,
}  # fmt: skip
DARK = {"sentiment": "negative", "emotion": "anger", "toxicity": "offensive", "hate": "hate", "irony": "irony"}
MESSAGES = [
    MESSAGE | DARK | {"message_id": "m1", "risky": True},
    MESSAGE | {"message_id": "m2", "sentiment": "neutral"},
    MESSAGE | {"message_id": "m3"},
    MESSAGE | {"message_id": "m4", "author_id": "u2", "author_consents": False},
    MESSAGE | {"message_id": "m5", "author_id": "u3", "author_consents": None},
]
FEATURES = [
    dict(zip(
        ("message_id", "emoji_sentiment", "lexical_diversity", "reading_ease", "pronouns_first_singular",
         "pronouns_first_plural", "negations", "is_reply", "response_delay_s", "hour_of_day"), values, strict=True))
    | {"author_id": "u", "tenant_id": "t"}
    for values in (
        ("m1", -0.5, 1.0, 80.0, 0.2, 0.1, 0.1, True, 60.0, 23),
        ("m2", None, 0.5, 60.0, 0.0, 0.0, 0.0, True, 120.0, 5),
        ("m3", 1.0, None, None, 0.3, 0.0, 0.2, False, None, 12),
        ("m4", 1.0, 1.0, 80.0, 0.2, 0.1, 0.1, True, 60.0, 23),
        ("m5", 1.0, 1.0, 80.0, 0.2, 0.1, 0.1, True, 60.0, 23),
    )
]  # fmt: skip

AD = {
    "campaign_id": "c",
    "tenant_id": "t",
    "site": "a.example",
    "document_id": "https://a.example/2",
    "revenue_usd": 0.0,
}
ADS = [
    AD | {"event_type": kind, "event_time": at(moment), "cost_usd": cost} | said
    for kind, moment, cost, said in (
        ("impression", "01 08:10", 0.002, {}),
        ("impression", "01 08:20", 0.002, {}),
        ("viewable", "01 08:20", 0.0, {}),
        ("click", "01 08:21", 0.0, {}),
        ("conversion", "01 08:59", 0.0, {"revenue_usd": 5.0}),
        ("click", "01 09:00", 0.0, {}),
        ("impression", "01 08:30", 0.001, {"document_id": "https://c.example/", "site": "c.example"}),
        ("impression", "01 08:30", 0.003, {"document_id": None, "site": None}),
        ("impression", "02 08:30", 0.004, {"document_id": "https://a.example/1"}),
    )
]
# What was known of a page by the time of an event on it.
OWN = {"sentiment": "negative", "threat_risk": "high", "risk": "high", "signals_source": "own"}
CRIME = OWN | {"iab_category_name": "News", "threat": "crime"}
ARMS = OWN | {"iab_category_name": "Technology", "threat": "arms", "sentiment": "positive"}
NOBODYS = dict.fromkeys((*OWN, "iab_category_name", "threat"), "unknown")
SNAPSHOT = {"placement_id": "p", "site": "a.example", "format": "banner", "tenant_id": "t"}
INVENTORY = [
    SNAPSHOT | {"avails": 100, "filled": 40, "floor_cpm_usd": 0.5, "authorisation": "authorised"},
    SNAPSHOT | {"avails": 35, "filled": 15, "floor_cpm_usd": 1.5, "authorisation": "unauthorised"},
    SNAPSHOT | {"avails": 10, "filled": 5, "floor_cpm_usd": 1.0, "authorisation": "unknown"},
    SNAPSHOT | {"avails": 5, "filled": 0, "floor_cpm_usd": 1.0, "authorisation": None},
    SNAPSHOT | {"placement_id": None, "site": "", "avails": 0, "filled": 0, "floor_cpm_usd": 2.0},
]
BID = ("bidder", "status", "latency_ms", "price_cpm_usd")
AUCTION = {"site": "a.example", "format": "video", "tenant_id": "t"}
AUCTIONS = [
    AUCTION | {"auction_time": at("01 10:05"), "winner": "x", "clearing_price_cpm_usd": 1.5, "bids": [
        dict(zip(BID, bid, strict=True))
        for bid in (("x", "bid", 10, 2.0), ("y", "no_bid", 20, None), ("z", "timeout", 120, None))
    ]},
    AUCTION | {"auction_time": at("01 10:55"), "winner": None, "clearing_price_cpm_usd": 9.0, "bids": [
        dict(zip(BID, bid, strict=True)) for bid in (("x", "bid", 30, 1.0), ("y", "error", 40, None))
    ]},
    AUCTION | {"auction_time": at("01 11:00"), "site": "", "format": None, "winner": None,
               "clearing_price_cpm_usd": None, "bids": []},
]  # fmt: skip
SYNCS = [
    {"synced_at": at(moment), "partner": "q", "tenant_id": "t", "status": status, "consent": consent}
    for moment, status, consent in (
        ("01 23:00", "matched", True),
        ("01 23:59", "matched", True),
        ("01 23:30", "unmatched", False),
        ("01 23:30", "error", None),
    )
]
DECISION = {
    "document_id": "https://a.example/1", "kind": "page", "tenant_id": "t", "content_hash": "h1", "task": "threat",
    "label": "none", "score": 0.8, "scores": [{"label": "none", "score": 0.8}], "model_name": "threat",
    "model_digest": "d", "transform_id": "x", "input_table": "silver/pages", "input_version": 3, "run_id": "r",
    "served_by": "batch", "traffic_arm": "champion", "decided_at": at("01 12:00"), "event_date": date(2026, 3, 1),
}  # fmt: skip
DECISIONS = [DECISION | {"decision_id": f"d{version}", "model_version": version} for version in (1, 2)]
TRAINING = {
    "training_tables": '{"silver/labels": 1}', "metric": "macro_f1", "metric_value": 0.6, "rows_train": 424,
    "trained_at": at("01 11:00"), "gate": '{"passed": true}',
}  # fmt: skip
MOVES = [
    {
        "model_name": "threat", "model_version": 1, "action": action, "moved_by": by, "moved_why": why,
        "moved_at": moment, "share": None,
    }
    for action, by, why, moment in (
        ("promotion", "gate", "better", at("01 11:01")),
        ("rollback", "ada", "after it decided", at("09 11:01")),
    )
]  # fmt: skip
VERSIONS = [{"model_name": "threat", "model_version": 1} | TRAINING]
PROMOTION = {
    "promoted_as": "promotion", "promoted_by": "gate", "promoted_why": "better", "promoted_at": at("01 11:01"),
}  # fmt: skip

DAY_ONE = {"event_date": date(2026, 3, 1)}
DAY_TWO = {"event_date": date(2026, 3, 2)}


SITE = {"tenant_id": "t", "none_pages": 0, "low_pages": 0, "medium_pages": 0, "high_pages": 0, "floor_pages": 0,
        "unrated_pages": 0}  # fmt: skip
HOUR = {"campaign_id": "c", "tenant_id": "t", "viewable": 0, "clicks": 0, "conversions": 0, "revenue_usd": 0.0,
        "viewability": 0.0, "ctr": 0.0, "conversion_rate": None}  # fmt: skip
EXPECTED: dict[str, list[dict[str, Any]]] = {
    "contextual_signals": [
        PAGES[4] | DAY_TWO | {"risk": "high", "brand_safe": False, "risky": True},
        PAGES[2] | DAY_ONE | {"risk": "floor", "brand_safe": False, "risky": True},
        PAGES[3] | DAY_ONE | {"risk": "unknown", "brand_safe": False, "risky": False},
    ],
    "site_brand_safety": [
        SITE | DAY_ONE | {
            "site": "a.example", "pages": 2, "risky_pages": 1, "risky_share": 0.5, "low_pages": 1, "floor_pages": 1,
            "top_threat": "death_injury", "positive_share": 0.5, "negative_share": 0.5, "top_topic": "News",
        },
        SITE | DAY_ONE | {
            "site": "b.example", "pages": 1, "risky_pages": 0, "risky_share": 0.0, "unrated_pages": 1,
            "top_threat": None, "positive_share": None, "negative_share": None, "top_topic": None,
        },
        SITE | DAY_TWO | {
            "site": "a.example", "pages": 1, "risky_pages": 1, "risky_share": 1.0, "high_pages": 1,
            "top_threat": "arms", "positive_share": 1.0, "negative_share": 0.0, "top_topic": "Technology",
        },
    ],
    "psychosocial_daily": [
        DAY_ONE | {
            "author_id": "u1", "tenant_id": "t", "messages": 3, "replies": 2, "negative_share": 0.333333,
            "neutral_share": 0.333333, "positive_share": 0.333333, "anger_messages": 1, "joy_messages": 2,
            "optimism_messages": 0, "sadness_messages": 0, "offensive_share": 0.333333, "hateful_share": 0.333333,
            "ironic_share": 0.333333, "risky_share": 0.333333, "mean_emoji_sentiment": 0.25,
            "mean_lexical_diversity": 0.75, "mean_reading_ease": 70.0, "first_person_share": 0.2,
            "negation_share": 0.1, "median_response_delay_s": 90.0, "night_share": 0.666667,
        },
    ],
    "ad_performance_hourly": [
        HOUR | DAY_ONE | {
            "hour": at("01 08:00"), "site": "a.example", **CRIME,
            "impressions": 2, "viewable": 1, "clicks": 1, "conversions": 1, "cost_usd": 0.004, "revenue_usd": 5.0,
            "viewability": 0.5, "ctr": 0.5, "conversion_rate": 1.0, "cpm_usd": 2.0,
        },
        HOUR | DAY_ONE | {
            "hour": at("01 08:00"), "site": "c.example", **NOBODYS,
            "impressions": 1, "cost_usd": 0.001, "cpm_usd": 1.0,
        },
        HOUR | DAY_ONE | {
            "hour": at("01 08:00"), "site": "unknown", **NOBODYS,
            "impressions": 1, "cost_usd": 0.003, "cpm_usd": 3.0,
        },
        HOUR | DAY_ONE | {
            "hour": at("01 09:00"), "site": "a.example", **CRIME,
            "impressions": 0, "clicks": 1, "cost_usd": 0.0, "viewability": None, "ctr": None, "conversion_rate": 0.0,
            "cpm_usd": None,
        },
        HOUR | DAY_TWO | {
            "hour": at("02 08:00"), "site": "a.example", **ARMS,
            "impressions": 1, "cost_usd": 0.004, "cpm_usd": 4.0,
        },
    ],
    "inventory_daily": [
        SNAPSHOT | DAY_ONE | {
            "snapshots": 4, "avails": 150, "filled": 60, "fill_rate": 0.4, "mean_floor_cpm_usd": 1.0,
            "max_floor_cpm_usd": 1.5, "authorised_avails": 100, "unauthorised_avails": 35, "unknown_avails": 15,
            "authorised_share": 0.666667,
        },
        SNAPSHOT | DAY_ONE | {
            "placement_id": "unknown", "site": "unknown", "snapshots": 1, "avails": 0, "filled": 0, "fill_rate": None,
            "mean_floor_cpm_usd": 2.0, "max_floor_cpm_usd": 2.0, "authorised_avails": 0, "unauthorised_avails": 0,
            "unknown_avails": 0, "authorised_share": None,
        },
    ],
    "rtb_hourly": [
        AUCTION | DAY_ONE | {
            "hour": at("01 10:00"), "auctions": 2, "bid_requests": 5, "bids": 2, "no_bids": 1, "timeouts": 1,
            "errors": 1, "wins": 1, "win_rate": 0.5, "mean_bid_cpm_usd": 1.5, "mean_clearing_price_cpm_usd": 1.5,
            "bid_to_win": 2.0, "median_latency_ms": 30.0, "p95_latency_ms": 104.0,
        },
        DAY_ONE | {
            "hour": at("01 11:00"), "site": "unknown", "format": "unknown", "tenant_id": "t", "auctions": 1,
            "bid_requests": 0, "bids": 0, "no_bids": 0, "timeouts": 0, "errors": 0, "wins": 0, "win_rate": 0.0,
            "mean_bid_cpm_usd": None, "mean_clearing_price_cpm_usd": None, "bid_to_win": None,
            "median_latency_ms": None, "p95_latency_ms": None,
        },
    ],
    "user_sync_hourly": [
        DAY_ONE | {
            "hour": at("01 23:00"), "partner": "q", "tenant_id": "t", "attempts": 4, "matched": 2, "unmatched": 1,
            "errors": 1, "match_rate": 0.5, "consent_share": 0.666667,
        },
    ],
    "audit_trail": [
        DECISIONS[0] | TRAINING | PROMOTION,
        DECISIONS[1] | dict.fromkeys(TRAINING) | dict.fromkeys(PROMOTION),
    ],
}  # fmt: skip


def dated(rows: list[dict[str, Any]], moment: str | None = None) -> pl.DataFrame:
    """Return rows with the day of their moment; of day one, if they have none."""
    day = pl.col(moment).dt.date() if moment else pl.lit(date(2026, 3, 1))
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(event_date=day)
    return frame.cast({pl.selectors.by_dtype(pl.Null): pl.String})


def put_pages(lakehouse: Lakehouse, rows: list[dict[str, Any]], *days: str) -> None:
    signals = with_risk(dated(rows, "fetched_at"))
    place = {name: pl.lit("file") for name in PROVENANCE}
    lakehouse.replace_days("silver/page_signals", days, signals.with_columns(**place))


@pytest.fixture(scope="module")
def silver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with the tables that the gold ones are made from."""
    lakehouse = Lakehouse(uri=str(tmp_path_factory.mktemp("silver")))
    put_pages(lakehouse, PAGES, ONE, TWO)
    lakehouse.replace_days("silver/message_signals", [ONE], dated(MESSAGES))
    lakehouse.replace_days("silver/message_features", [ONE], dated(FEATURES))
    lakehouse.replace_days("silver/ad_events", [ONE, TWO], dated(ADS, "event_time"))
    lakehouse.replace_days("silver/inventory", [ONE], dated(INVENTORY))
    lakehouse.replace_days("silver/rtb_auctions", [ONE], dated(AUCTIONS, "auction_time"))
    lakehouse.replace_days("silver/user_sync", [ONE], dated(SYNCS, "synced_at"))
    lakehouse.replace_days("silver/decisions", [ONE], dated(DECISIONS))
    lakehouse.replace_all("operations/model_versions", pl.DataFrame(VERSIONS))
    lakehouse.replace_all("operations/promotions", pl.DataFrame(MOVES, schema_overrides={"share": pl.Float64}))
    return Path(lakehouse.uri)


@pytest.fixture(scope="module")
def built(silver: Path, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """The same, with the gold tables of both days."""
    lakehouse = copied(silver, tmp_path_factory.mktemp("gold"))
    assert materialised(lakehouse, ONE, TWO).success
    return lakehouse


def copied(lakehouse: Path | str, folder: Path) -> Lakehouse:
    return Lakehouse(uri=str(shutil.copytree(lakehouse, folder / "lake")))


def materialised(lakehouse: Lakehouse, first: str, last: str, *tables: str) -> dg.ExecuteInProcessResult:
    days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    keys = [dg.AssetKey(["gold", table]) for table in tables or INPUTS]
    resources = {"lakehouse": lakehouse}
    return dg.materialize([GOLD], selection=keys, resources=resources, tags=days, raise_on_error=False)


def rows(lakehouse: Lakehouse, table: str) -> list[dict[str, Any]]:
    return ordered(lakehouse.read(f"gold/{table}").to_dicts())


def ordered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(({name: row[name] for name in sorted(row)} for row in found), key=repr)


def everything(lakehouse: Lakehouse) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(lakehouse, table) for table in INPUTS}


@pytest.mark.parametrize("table", sorted(EXPECTED))
def test_figures_are_those_worked_out_by_hand(built: Lakehouse, table: str) -> None:
    assert rows(built, table) == ordered(EXPECTED[table])


def test_every_table_has_an_example() -> None:
    assert EXPECTED.keys() == INPUTS.keys()


def test_tables_know_from_which_state_of_their_inputs_they_are(built: Lakehouse) -> None:
    stale = [stale_days(built, f"gold/{table}", inputs) for table, inputs in INPUTS.items()]
    assert not any(stale)


def test_only_authors_who_consent_are_profiled(built: Lakehouse) -> None:
    assert {row["author_id"] for row in rows(built, "psychosocial_daily")} == {"u1"}


def test_again_changes_no_row(built: Lakehouse, tmp_path: Path) -> None:
    lakehouse = copied(built.uri, tmp_path)
    assert materialised(lakehouse, ONE, TWO).success
    assert everything(lakehouse) == everything(built)


def test_a_deleted_day_comes_back_as_it_was(built: Lakehouse, tmp_path: Path) -> None:
    lakehouse = copied(built.uri, tmp_path)
    for table in INPUTS:
        lakehouse.open(f"gold/{table}").delete(f"event_date = '{ONE}'")
    assert everything(lakehouse) != everything(built)
    assert materialised(lakehouse, ONE, ONE).success
    assert everything(lakehouse) == everything(built)


def test_a_page_is_known_by_its_latest_fetch_in_whatever_order_days_are_made(silver: Path, tmp_path: Path) -> None:
    lakehouse = copied(silver, tmp_path)
    for day in (TWO, ONE):
        assert materialised(lakehouse, day, day, "contextual_signals").success
    assert rows(lakehouse, "contextual_signals") == ordered(EXPECTED["contextual_signals"])
    assert not lakehouse.exists("gold/site_brand_safety"), "a table that was not selected has been made"

    put_pages(lakehouse, [page("https://a.example/2", "03 06:00", "h6")], THREE)  # fetched again
    put_pages(lakehouse, [row for row in PAGES[:3] if row["content_hash"] != "h1"], ONE)  # b.example/3 is withdrawn
    assert materialised(lakehouse, ONE, THREE, "contextual_signals").success
    found = {row["document_id"]: str(row["event_date"]) for row in rows(lakehouse, "contextual_signals")}
    assert found == {"https://a.example/1": TWO, "https://a.example/2": THREE}


def test_each_organisation_has_its_own_row_of_a_page_and_an_event_on_it_counts_once(
    silver: Path, tmp_path: Path
) -> None:
    lakehouse = copied(silver, tmp_path)
    theirs = page(
        "https://a.example/2", "01 21:00", "h2", tenant_id="u", iab_category_name="Sports", threat_risk="high"
    )
    put_pages(lakehouse, [*PAGES[:3], theirs], ONE)
    assert materialised(lakehouse, ONE, ONE, "contextual_signals", "ad_performance_hourly").success
    of_it = [row for row in rows(lakehouse, "contextual_signals") if row["document_id"] == theirs["document_id"]]
    assert sorted((row["tenant_id"], row["content_hash"]) for row in of_it) == [("t", "h3"), ("u", "h2")]
    told = {row["iab_category_name"]: row["impressions"] for row in rows(lakehouse, "ad_performance_hourly")}
    assert told == {"News": 2, "unknown": 1}
    put_pages(lakehouse, PAGES[:3], ONE)
    assert materialised(lakehouse, ONE, ONE, "contextual_signals").success
    assert {row["tenant_id"] for row in rows(lakehouse, "contextual_signals")} == {"t"}


def test_an_event_is_judged_by_what_its_organisation_would_have_been_given(silver: Path, tmp_path: Path) -> None:
    lakehouse, address = copied(silver, tmp_path), "https://a.example/9"
    fetches = [("t", "01 08:00", "Sports"), ("u", "01 10:00", "News"), ("t", "01 12:00", "Travel")]
    given = [
        page(address, moment, f"h-{topic}", tenant_id=tenant, iab_category_name=topic)
        for tenant, moment, topic in fetches
    ]
    put_pages(lakehouse, given, ONE)
    asked = [
        ("t", "01 09:00"),
        ("t", "01 11:00"),
        ("t", "01 13:00"),
        ("u", "01 09:00"),
        ("u", "01 13:00"),
        ("u", "01 07:00"),
    ]
    shown = [AD | {"document_id": address, "tenant_id": tenant, "event_time": at(moment)} for tenant, moment in asked]
    shown = [one | {"event_type": "impression", "cost_usd": 0.0} for one in shown]
    lakehouse.replace_days("silver/ad_events", [ONE], dated(shown, "event_time"))
    assert materialised(lakehouse, ONE, ONE, "contextual_signals", "ad_performance_hourly").success
    found = rows(lakehouse, "ad_performance_hourly")
    assert sorted((r["tenant_id"], r["hour"].hour, r["iab_category_name"], r["signals_source"]) for r in found) == [
        ("t", 9, "Sports", "own"),
        ("t", 11, "Sports", "own"),
        ("t", 13, "Travel", "own"),
        ("u", 7, "Sports", "later"),
        ("u", 9, "Sports", "anyone"),
        ("u", 13, "News", "own"),
    ]


def test_a_document_whose_newest_fetch_is_gone_has_the_one_before(silver: Path, tmp_path: Path) -> None:
    lakehouse = copied(silver, tmp_path)
    assert materialised(lakehouse, ONE, TWO, "contextual_signals").success
    put_pages(lakehouse, [PAGES[0] | {"document_id": "https://b.example/4", "fetched_at": at("02 07:00")}], TWO)
    assert materialised(lakehouse, TWO, TWO, "contextual_signals").success
    found = {row["document_id"]: row["content_hash"] for row in rows(lakehouse, "contextual_signals")}
    assert found["https://a.example/1"] == "h1"


def test_a_failing_test_is_a_failed_check(silver: Path, tmp_path: Path) -> None:
    lakehouse = copied(silver, tmp_path)
    signals = lakehouse.read("silver/page_signals", [ONE])
    lakehouse.replace_days("silver/page_signals", [ONE], signals.with_columns(risk=pl.lit("meteor")))
    lakehouse.replace_days("silver/user_sync", [ONE], dated([SYNCS[0] | {"partner": None}], "synced_at"))
    result = materialised(lakehouse, ONE, ONE, "contextual_signals", "user_sync_hourly")
    assert {check.check_name: check.severity for check in result.get_asset_check_evaluations() if not check.passed} == {
        "contextual_signals_risks": dg.AssetCheckSeverity.WARN,
        "user_sync_hourly_key": dg.AssetCheckSeverity.ERROR,
    }
    # A finding about the data stops nothing; a broken key does, and the table is not taken to be done.
    assert message_of(result) == "user_sync_hourly_key: Got 1 result, configured to fail if != 0"
    assert stale_days(lakehouse, "gold/user_sync_hourly", INPUTS["user_sync_hourly"]) == [ONE]


def test_a_missing_table_is_named_in_one_line(silver: Path, tmp_path: Path) -> None:
    lakehouse = copied(silver, tmp_path)
    shutil.rmtree(f"{lakehouse.uri}/operations/model_versions")
    result = materialised(lakehouse, ONE, ONE, "audit_trail")
    assert message_of(result) == "audit_trail: table operations/model_versions does not exist yet: materialise it first"


def test_definitions_load_without_dbt() -> None:
    loaded = "import sys, platform_assets.gold.tables; print('dbt.cli' in sys.modules, 'dbt.version' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert said.stdout == "False False\n"


def message_of(result: dg.ExecuteInProcessResult) -> str:
    """Return the message of the error that a run has failed with."""
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    assert error is not None
    assert error.cause is not None
    return error.cause.message.split(": ", 1)[1].strip()
