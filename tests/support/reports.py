"""Tables with rows of every kind that reports read, and the pages that are made from them."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl

from platform_assets.operations import drift
from platform_assets.reports import business_insights as business
from platform_assets.reports import model_monitoring as monitoring
from platform_assets.reports import platform_health as health
from platform_assets.reports import risk_analysis as risk
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from signals.consumer_record import EVIDENCE

DAY_1, DAY_2 = date(2026, 11, 9), date(2026, 11, 10)
NOON = datetime(2026, 11, 9, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 12, 8, tzinfo=UTC)
TIME, TEXT, WHOLE, REAL = pl.Datetime("us", "UTC"), pl.String, pl.Int64, pl.Float64
HOSTILE = "<script>alert('x')</script></script>\"&"

BID = pl.Struct({"bidder": TEXT, "status": TEXT, "no_bid_reason": WHOLE, "latency_ms": WHOLE, "price_cpm_usd": REAL})
JUDGED = {"threat": TEXT, "threat_score": REAL, "threat_risk": TEXT, "toxicity": TEXT, "hate": TEXT}
SCHEMAS = {
    "gold/contextual_signals": {
        "document_id": TEXT, "url": TEXT, "site": TEXT, "tenant_id": TEXT, "fetched_at": TIME, "title": TEXT,
        "iab_category_name": TEXT, "sentiment": TEXT, **JUDGED, "risk": TEXT,
        "evidence": pl.List(EVIDENCE), DAY: pl.Date,
    },
    "silver/message_signals": {
        "message_id": TEXT, "tenant_id": TEXT, "platform": TEXT, "iab_category_name": TEXT, **JUDGED, DAY: pl.Date,
    },
    "silver/decisions": {
        "decision_id": TEXT, "tenant_id": TEXT, "document_id": TEXT, "task": TEXT, "label": TEXT, "score": REAL,
        "abstention": TEXT,
        "model_version": WHOLE, "decided_at": TIME, "content_hash": TEXT, "traffic_arm": TEXT, DAY: pl.Date,
    },
    "silver/rtb_auctions": {"auction_id": TEXT, "winner": TEXT, "bids": pl.List(BID), DAY: pl.Date},
    "silver/quarantine": {"quarantine_id": TEXT, "table": TEXT, "rule": TEXT, DAY: pl.Date},
    "gold/ad_performance_hourly": {
        "hour": TIME, "tenant_id": TEXT, "campaign_id": TEXT, "site": TEXT, "iab_category_name": TEXT,
        "sentiment": TEXT, "threat": TEXT, "risk": TEXT, "impressions": WHOLE, "viewable": WHOLE, "clicks": WHOLE,
        "conversions": WHOLE, "cost_usd": REAL, "revenue_usd": REAL, DAY: pl.Date,
    },
    "gold/rtb_hourly": {
        "hour": TIME, "auctions": WHOLE, "bid_requests": WHOLE, "bids": WHOLE, "timeouts": WHOLE, "errors": WHOLE,
        "wins": WHOLE, DAY: pl.Date,
    },
    "gold/inventory_daily": {
        "format": TEXT, "avails": WHOLE, "filled": WHOLE, "authorised_avails": WHOLE, "unauthorised_avails": WHOLE,
        "unknown_avails": WHOLE, DAY: pl.Date,
    },
    "gold/user_sync_hourly": {
        "partner": TEXT, "attempts": WHOLE, "matched": WHOLE, "unmatched": WHOLE, "errors": WHOLE, DAY: pl.Date,
    },
    "gold/psychosocial_daily": {
        "author_id": TEXT, "messages": WHOLE, "positive_share": REAL, "negative_share": REAL, "joy_messages": WHOLE,
        "optimism_messages": WHOLE, "sadness_messages": WHOLE, "anger_messages": WHOLE, DAY: pl.Date,
    },
    "operations/drift": drift.SCHEMA,
}  # fmt: skip
MODEL = {
    "model_name": "threat", "model_version": 2, "task": "threat", "metric": "macro_f1", "metric_value": 0.66,
    "metrics": json.dumps({
        "calibration_error": 0.08, "sure_from": 0.62, "coverage_from_0.00": 1.0, "accuracy_from_0.00": 0.8,
        "coverage_from_0.50": 0.9, "accuracy_from_0.50": 0.85,
    }), "rows_train": 800, "rows_val": 200, "trained_at": NOON,
    "is_champion": True, "promoted_why": "macro_f1 0.660, no champion to compare with",
}  # fmt: skip

GAP = [
    {"task": "threat", "model_version": 1, "labels": 900, "decided_at": NOON, "seconds_last": 9e5, "seconds_max": 9e6},
    {"task": "threat", "model_version": 2, "before_version": 1, "labels": 500, "landed_last": NOON, "decided_at": NOW,
     "seconds_p50": 3_000.0, "seconds_p95": 40_000.0, "seconds_max": 90_000.0, "seconds_last": 80.0,
     "compared": 40, "changed": 3, "impressions": 1_200, "spend_usd": 4.5},
    {"task": "threat", "labels": 12, "seconds_max": 30.0, "seconds_last": 4.0},
    {"task": "hate", "labels": 1, "seconds_max": 7_200.0, "seconds_last": 7_200.0},
]  # fmt: skip


def table(name, *rows):
    return pl.DataFrame([{DAY: DAY_1, **row} for row in rows], schema=SCHEMAS[name])


def a_page(url="https://news.example/a", label="crime", level="high", **more):
    site = url.split("/")[2] if "://" in url else "news.example"
    judged = {
        "threat": label,
        "threat_score": 0.9,
        "threat_risk": level,
        "risk": level,
        "toxicity": "offensive",
        "hate": "not-hate",
    }
    about = {
        "document_id": url,
        "url": url,
        "site": site,
        "tenant_id": "meridian",
        "title": "A page",
        "fetched_at": NOON,
    }
    return {**about, **judged, "iab_category_name": "Crime", "sentiment": "negative", **more}


def a_message(**more):
    judged = {"threat": "none", "threat_score": 0.8, "threat_risk": "low", "toxicity": "offensive", "hate": "hate"}
    return {"tenant_id": "meridian", "platform": "chirper", "iab_category_name": "Sports", **judged, **more}


COUNTS = {"impression": "impressions", "viewable": "viewable", "click": "clicks", "conversion": "conversions"}


def events(*kinds, beside=None, campaign="cmp-1", **more):
    """Return an hour's row for each event on a page."""
    about = {"site": "news.example", **dict.fromkeys(("iab_category_name", "sentiment", "threat", "risk"))}
    about |= {name: value for name, value in (beside or {}).items() if name in about and name != "site"}
    money = {"impression": {"cost_usd": 0.25, "revenue_usd": 0.0}, "conversion": {"cost_usd": 0.0, "revenue_usd": 40.0}}
    nothing = {"cost_usd": 0.0, "revenue_usd": 0.0, **dict.fromkeys(COUNTS.values(), 0)}
    of = {"hour": NOON, "tenant_id": "meridian", "campaign_id": campaign, **about, **nothing}
    return [{**of, COUNTS[kind]: 1, **money.get(kind, {}), **more} for kind in kinds]


def a_window(task="threat", **more):
    bins = [{"rows": 20.0, "confidence": 17.0, "right": 15.0}, {"rows": 40.0, "confidence": 38.0, "right": 38.0}]
    figures = {f"{name}_drift": 0.2 for name in drift.MEASURES} | {f"{name}_limit": 0.25 for name in drift.MEASURES}
    labelled = {"labels": 80, "labelled": 60, "confidence": 0.92, "accuracy": 0.88, "calibration_error": 0.03}
    delay = {"label_delay_p50": 7_200.0, "label_delay_p95": 36_000.0}
    said = {
        "task": task,
        "model_version": 2,
        "documents": 150,
        "answered_at": NOON,
        "mean_score": 0.8,
        "drifted": False,
    }
    return said | figures | labelled | delay | {"finding": f"no drift: {HOSTILE}", "reliability": bins} | more


def full_rows():
    bids = [
        {"bidder": "northlight", "status": "bid", "latency_ms": 40, "price_cpm_usd": 2.0},
        {"bidder": "tessera", "status": "timeout", "latency_ms": 200, "price_cpm_usd": None},
    ]
    both = (DAY_1, DAY_2)
    asked = {"bid_requests": 8, "timeouts": 1, "errors": 0}
    crowd = [
        {"author_id": f"author-{i}", "messages": 2, "positive_share": 0.5, "negative_share": 0.5, "joy_messages": 1,
         "optimism_messages": 0, "sadness_messages": 0, "anger_messages": 1, DAY: day}
        for i in range(6) for day in both
    ]  # fmt: skip
    decided = {"tenant_id": "meridian", "task": "threat", "score": 0.9, "model_version": 2, "decided_at": NOON}
    decided |= {"traffic_arm": "champion"}
    return {
        "gold/contextual_signals": [
            a_page(),
            a_page("https://shop.example/b", "none", "low", threat_score=0.99),
            a_page("https://vile.example/c", "hate", "floor", title=HOSTILE, event_date=DAY_2),
        ],
        "silver/message_signals": [a_message(), a_message(threat="hate", threat_risk="floor", event_date=DAY_2)],
        "gold/ad_performance_hourly": [
            *events("impression", "viewable", "click", "conversion", beside=a_page()),
            *events("impression", campaign="cmp-2", beside=a_page(label="hate", level="floor"), event_date=DAY_2),
            *events(
                "impression", "impression", campaign="cmp-2", beside=a_page(label="none", level="low"), event_date=DAY_2
            ),
        ],
        "silver/decisions": [
            {**decided, "decision_id": "d-1", "document_id": "https://vile.example/c", "label": "hate", DAY: DAY_2},
            {**decided, "decision_id": "d-2", "document_id": "https://news.example/a", "label": "crime"},
            {**decided, "decision_id": "d-3", "document_id": "https://vile.example/c", "label": "hate", DAY: DAY_2,
             "tenant_id": "harbour", "decided_at": NOON + timedelta(hours=1)},
        ],
        "silver/rtb_auctions": [{"auction_id": "a", "winner": "northlight", "bids": bids}],
        "silver/quarantine": [
            {"quarantine_id": "q", "table": "silver/ad_events", "rule": "duplicate_key"},
            {"quarantine_id": "r", "table": "bronze/ad_events", "rule": HOSTILE, DAY: date(2026, 11, 20)},
        ],
        "gold/rtb_hourly": [{"hour": NOON, "auctions": 4, "bids": 5, "wins": 3, **asked, DAY: day} for day in both],
        "gold/inventory_daily": [
            {"format": "banner", "avails": 100, "filled": 60, "authorised_avails": 75, "unauthorised_avails": 20,
             "unknown_avails": 5, DAY: day}
            for day in both
        ],
        "gold/user_sync_hourly": [{"partner": "tessera", "attempts": 4, "matched": 3, "unmatched": 1, "errors": 0}],
        "gold/psychosocial_daily": crowd,
        "operations/drift": [a_window(), a_window(drifted=True, input_drift=0.6, event_date=DAY_2), a_window("hate")],
    }  # fmt: skip


def lake(path, rows):
    """Return a lakehouse in which every table exists, most of them empty."""
    lakehouse = Lakehouse(uri=str(path))
    for name in SCHEMAS:
        frame = table(name, *rows.get(name, ()))
        lakehouse.replace_days(name, sorted({str(day) for day in frame[DAY]}) or [str(DAY_1)], frame)
    return lakehouse


ASSETS = {
    risk.TABLE: risk.risk_analysis,
    business.TABLE: business.business_insights,
    health.TABLE: health.platform_health,
    monitoring.TABLE: monitoring.model_monitoring,
}
MODULES = (risk, business, health, monitoring)
LAST = max(day for rows in full_rows().values() for row in rows if (day := row.get(DAY)))


def materialise(lakehouse, first=DAY_1, last=LAST):
    tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([*ASSETS.values()], resources={"lakehouse": lakehouse}, tags=tags, instance=instance)
    assert result.success
    return {
        event.asset_key.to_user_string(): event.materialization for event in result.get_asset_materialization_events()
    }


def html_of(lakehouse, name):
    return Path(f"{lakehouse.uri}/{name}.html").read_text(encoding="utf-8")


def without_plotly(text):
    from plotly.offline import get_plotlyjs

    assert text.count(get_plotlyjs()) == 1
    return text.replace(get_plotlyjs(), "")


def charts(page):
    return [block for section in page.sections for block in section.blocks if block.kind == "chart"]


def blocks(page):
    return {block.title: block for section in page.sections for block in section.blocks}
