import json
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from platform_assets import reports
from platform_assets.operations import drift, label_latency
from platform_assets.reports import business_insights as business
from platform_assets.reports import context, suitability
from platform_assets.reports import model_monitoring as monitoring
from platform_assets.reports import page as pages
from platform_assets.reports import platform_health as health
from platform_assets.reports import risk_analysis as risk
from platform_assets.reports.ab_tests import ab_tests, shadow_comparisons
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import stale_days
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
    "metrics": json.dumps({"calibration_error": 0.08}), "rows_train": 800, "rows_val": 200, "trained_at": NOON,
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


class TestRows:
    def test_ads_add_up_by_what_was_known_of_their_page(self):
        hours = table("gold/ad_performance_hourly", *events("impression", "click", beside=a_page()))
        got = context.aggregate(hours.lazy()).collect()
        assert got.select(DAY, "threat", "risk", "topic", "impressions", "clicks", "cost_usd").rows() == [
            (DAY_1, "crime", "high", "Crime", 1, 1, 0.25)
        ]

    def test_an_ad_on_a_page_that_nobody_judged_is_kept(self):
        shown = table("gold/ad_performance_hourly", *events("impression", campaign=None))
        got = context.aggregate(shown.lazy()).collect()
        assert got.select(*context.KEY[2:], "impressions").rows() == [
            ("unknown", "news.example", "unknown", "unknown", "unknown", "unknown", 1)
        ]

    def test_risk_rows_join_pages_with_what_ran_beside_them(self):
        found = table("gold/contextual_signals", a_page(), a_page("https://news.example/b", threat_score=0.7))
        hours = [*events("impression", "viewable", beside=a_page())]
        hours += events("impression", beside=a_page(), event_date=DAY_2)
        ads = context.aggregate(table("gold/ad_performance_hourly", *hours).lazy()).collect()
        rows = risk.risks(
            found, table("silver/message_signals", a_message(), a_message(threat=None, threat_risk=None)), ads
        )
        assert rows.select(risk.KEY).is_unique().all()
        assert rows.select(
            "kind", "threat", "documents", "mean_threat_score", "impressions", "cost_usd", "offensive"
        ).rows() == [
            ("message", "none", 1, 0.8, 0, 0.0, 1),
            ("message", "unknown", 1, 0.8, 0, 0.0, 1),
            ("page", "crime", 2, 0.8, 1, 0.25, 2),
            ("page", "crime", 0, None, 1, 0.25, 0),
        ]
        assert rows["threat_name"].to_list() == [
            "None",
            "Not judged",
            "Crime and harmful acts",
            "Crime and harmful acts",
        ]

    def test_insights_have_no_rate_where_there_is_nothing_to_divide_by(self):
        shown = table(
            "gold/ad_performance_hourly",
            *events("impression", "impression", "click"),
            *events("conversion", campaign="cmp-2"),
        )
        rows = business.insights(context.aggregate(shown.lazy()).collect())
        rates = rows.select("campaign_id", "ctr", "conversion_rate", "cpm_usd", "roas").rows()
        assert rates == [("cmp-1", 0.5, 0.0, 250.0, 0.0), ("cmp-2", None, None, None, None)]

    def test_health_counts_rows_and_names_the_rule_broken_most(self):
        held = pl.DataFrame(
            {DAY: [DAY_1, DAY_1], "table": ["silver/pages", "gold/rtb_hourly"], "rows": [8, 5]},
            schema={DAY: pl.Date, "table": TEXT, "rows": WHOLE},
        )
        broken = table(
            "silver/quarantine",
            *({"table": "silver/pages", "rule": rule} for rule in ("b", "a")),
            {"table": "bronze/pages", "rule": "not_json", DAY: DAY_2},
        )
        assert health.health(held, broken).rows() == [
            (DAY_1, "gold/rtb_hourly", "gold", 5, 0, 0.0, None),
            (DAY_1, "silver/pages", "silver", 8, 2, 0.2, "a"),
            (DAY_2, "bronze/pages", "bronze", 0, 1, 1.0, "not_json"),
        ]

    def test_the_interval_holds_the_rate_and_stays_between_none_and_all(self):
        low, high = business.interval(pl.col("k"), pl.col("n"))
        got = pl.DataFrame({"k": [0, 5, 10, 12], "n": [10, 10, 10, 10]}).select(low=low, high=high)
        assert ((got["low"] >= -1e-9) & (got["high"] <= 1 + 1e-9)).all()
        assert got.row(1) == pytest.approx((0.269, 0.731), abs=0.001)

    def test_shift_is_the_part_of_answers_on_other_labels(self):
        answers = pl.DataFrame({DAY: [DAY_1, DAY_1, DAY_2], "label": ["a", "b", "b"], "decisions": [3, 1, 4]})
        assert health.shift(answers) == pytest.approx(0.75)
        assert health.shift(answers.filter(pl.col(DAY) == DAY_1)) is None

    def test_answers_are_those_of_the_champion_or_else_of_the_newest(self):
        answers = pl.DataFrame({"task": ["threat", "threat", "hate", "hate"], "model_version": [1, 2, 1, 2]})
        champions = pl.DataFrame({"task": ["threat"], "model_version": [1]})
        assert health.serving(answers, champions).rows() == [("threat", 1), ("hate", 2)]


class TestFigures:
    def test_figures_read_as_a_person_writes_them(self):
        assert (pages.count(1234.4), pages.dollars(1234.5), pages.dollars(-2)) == ("1,234", "$1,234.50", "−$2.00")
        assert [pages.percent(x).replace("\u00a0", " ") for x in (0.1234, 0.004, 0, 1)] == [
            "12.3 %",
            "0.40 %",
            "0.0 %",
            "100.0 %",
        ]
        assert (pages.plural(1, "page"), pages.plural(0, "page")) == ("1 page", "0 pages")
        assert pages.join_words(["a", None, "c"]) == "a, unknown and c"

    def test_a_headline_compares_the_halves_of_its_days(self):
        days = [DAY_1 + timedelta(days=i) for i in range(3)]
        rows = pl.DataFrame({DAY: days, "n": [10, 99, 15], "of": [100, 100, 100]})
        grown = pages.headline("n", rows, pl.col("n").sum(), "count", rising="bad")
        assert (grown.value, grown.change.replace("\u00a0", " "), grown.tone) == ("124", "▲ 50.0 %", "bad")
        share = pages.headline("n", rows, pages.ratio(pl.col("n").sum(), pl.col("of").sum()), "percent", rising="good")
        assert (share.change, share.tone) == ("▲ 5.0 points", "good")
        assert len(share.line.split()) == 3

    @pytest.mark.parametrize("kept", [0, 1])
    def test_without_two_days_there_is_no_change(self, kept):
        rows = pl.DataFrame({DAY: [DAY_1], "n": [10]}).head(kept)
        alone = pages.headline("n", rows, pages.ratio(pl.col("n").sum(), pl.col("n").sum()), "percent")
        assert (alone.change, alone.tone, alone.line) == ("", "", "")

    def test_concentration_names_the_fewest_that_hold_half(self):
        rows = pl.DataFrame({"site": ["a", "b", "c", "d"], "n": [5, 1, 3, 0]})
        assert pages.concentration(rows, "site", "n") == (["a"], pytest.approx(5 / 9))
        assert pages.concentration(rows.clear(), "site", "n") == ([], 0.0)

    def test_a_page_looks_back_28_days_from_its_newest_day(self, tmp_path):
        lakehouse = Lakehouse(uri=str(tmp_path))
        days = [date(2026, 10, 1), date(2026, 10, 13), date(2026, 10, 14), DAY_2]
        rows = table(
            "gold/inventory_daily", *({"format": "banner", "avails": 1, "filled": 1, DAY: day} for day in days)
        )
        lakehouse.replace_days("gold/inventory_daily", [str(day) for day in days], rows)
        assert pages.last_days(lakehouse, ["gold/inventory_daily", "gold/none"]) == ["2026-10-14", "2026-11-10"]


def test_no_table_is_behind_the_day_on_which_a_declaration_came():
    came = DAY_2 + timedelta(days=9)
    rows = pl.DataFrame(
        [("bronze/ad_events", DAY_1, 3, 0), ("silver/pages", DAY_2, 1, 0), ("bronze/seller_declarations", came, 1, 0)],
        schema=["table", DAY, "rows", "quarantined"],
        orient="row",
    )
    behind = health.reach(rows, dict.fromkeys(rows["table"])).select("table", "behind").rows()
    lag = (DAY_2 - DAY_1).days
    assert dict(behind) == {"bronze/ad_events": lag, "silver/pages": 0, "bronze/seller_declarations": 0}


class TestPages:
    @pytest.fixture(scope="class")
    def lakehouse(self, tmp_path_factory):
        lakehouse = lake(tmp_path_factory.mktemp("lake"), full_rows())
        lakehouse.replace_all("operations/model_versions", pl.DataFrame([MODEL], schema=health.MODEL_VERSION))
        lakehouse.replace_all(label_latency.TABLE, pl.DataFrame(GAP, schema=label_latency.SCHEMA))
        materialise(lakehouse)
        return lakehouse

    def test_every_chart_of_a_full_lake_has_data_and_a_reading(self, lakehouse):
        for module in MODULES:
            page = module.page(lakehouse)
            empty = [title for title, block in blocks(page).items() if not block.reading]
            assert empty == [], module.TABLE

    def test_charts_are_what_plotly_knows(self, lakehouse):
        from plotly.graph_objects import Figure

        for module in MODULES:
            for chart in charts(module.page(lakehouse)):
                Figure(json.loads(re.sub(r"var\(--[\w-]+\)", "#123456", json.dumps(chart.figure, allow_nan=False))))

    @pytest.mark.parametrize("name", ASSETS)
    def test_a_page_needs_nothing_from_elsewhere(self, lakehouse, name):
        text = html_of(lakehouse, name)
        assert len(text.encode()) < 6_000_000
        rest = without_plotly(text)
        assert not re.search(r"<(script|link|img|iframe)\b[^>]*(src|href)", rest)
        assert not re.search(r"@import|url\(", rest)
        assert "default-src 'none'" in rest

    @pytest.mark.parametrize("name", ASSETS)
    def test_text_from_data_stays_text(self, lakehouse, name):
        rest = without_plotly(html_of(lakehouse, name))
        assert "<script>alert" not in rest
        assert rest.count("<script") == rest.count("</script>")
        if name != business.TABLE:
            assert "alert(" in unescape(rest)

    def test_the_gravest_page_is_named_with_its_decision(self, lakehouse):
        listing = blocks(risk.page(lakehouse))["The 15 gravest, the surest first"]
        assert [(row["risk"], row["title"], row["decision_id"]) for row in listing.rows] == [
            ("floor", HOSTILE, "d-1"),
            ("high", "A page", "d-2"),
        ]

    def test_readings_state_what_the_data_says(self, lakehouse):
        page = risk.page(lakehouse)
        assert page.finding.replace("\u00a0", " ") == (
            "66.7 % of 3 judged pages are risky. $0.50 of advertising, 50.0 % of all spend, ran beside them; "
            "50.0 % of that was spent by cmp-1."
        )
        by_campaign = blocks(page)["Spend beside risky pages, by campaign"].reading.replace("\u00a0", " ")
        assert "came from 1 of 2 campaigns. cmp-1 spent the largest part of its own money there: 100.0 %" in by_campaign
        page = health.page(lakehouse)
        assert "No model answers for emotion, hate, iab_category" in page.finding
        assert "threat is nearest to its floor, 0.66 where 0.30 is needed." in blocks(page)["Champions"].reading

    def test_monitoring_says_what_drifted_how_sure_models_are_and_how_late_labels(self, lakehouse):
        page = monitoring.page(lakehouse)
        assert page.finding == (
            "1 of 3 windows drifted. Most often input did, in 1. "
            "No task drifts: none has 3 such days among its last 5, the latest included."
        )
        shown = blocks(page)
        drifted = shown["Input drift: texts asked, beside those that trained"]
        assert [(trace["name"], trace["y"]) for trace in drifted.data] == [
            ("hate", [pytest.approx(0.8)]),
            ("threat", [pytest.approx(0.8), pytest.approx(2.4)]),
        ]
        assert "threat was the furthest off, on 10 November: its texts were at 2.40 times" in drifted.reading
        curve = shown["Right answers by confidence"]
        assert [(trace["x"], trace["y"]) for trace in curve.data] == [([0.85, 0.95], [0.75, 0.95])] * 2
        errors = {
            row["task"]: (row["labelled"], row["error"]) for row in shown["Calibration, over all days shown"].rows
        }
        assert errors == {"hate": (60, pytest.approx(2 / 60)), "threat": (120, pytest.approx(4 / 120))}
        delayed = shown["From a document to its label, the median by day of the label"]
        assert delayed.data[0]["y"] == [2.0]
        assert "one in twenty took 10.00 hours or more" in delayed.reading

    def test_a_task_drifts_whose_last_days_that_are_over_do(self):
        days = [DAY_1 + timedelta(days=i) for i in range(6)]

        def finding(drifted):
            has = {"+": True, "-": False, "?": None}
            windows = [a_window(drifted=has[d], event_date=day) for d, day in zip(drifted, days, strict=True)]
            behind = pages.Section("", [])
            return monitoring.build_page(table("operations/drift", *windows), behind, {}, days[-1]).finding

        assert "threat drifts: the next new labels train it again." in finding("-+-++-")
        assert "No task drifts" in finding("-+++-+")
        assert "No task drifts" in finding("---+++")
        assert "No window could be measured yet" in finding("??????")

    def test_the_gap_between_labels_and_models_is_shown_with_what_it_cost(self, lakehouse):
        shown = blocks(monitoring.page(lakehouse))
        chart = shown["From a label’s landing to the first decision by a champion that has seen it"]
        said = chart.reading.replace("\u00a0", " ")
        assert said.startswith("threat has learnt last, from 500 labels: 1.3 min after the last of them landed")
        assert said.endswith("None took over 120 s.")
        # The first champion's labels were there before it was asked.
        assert [(trace["y"], trace["x"]) for trace in chart.data] == [
            (["threat 2"], [80.0]), (["threat 2"], [3_000.0]), (["threat 2"], [40_000.0]),
        ]  # fmt: skip
        grid = shown["What the gap costs, and what still waits"]
        assert grid.reading.startswith(
            "Newer champions say otherwise of 3 documents, of 40 that could be compared; 1,200"
        )
        assert [(row["task"], row["model_version"], row["waiting"]) for row in grid.rows] == [
            ("hate", None, 1), ("threat", 2, 12),
        ]  # fmt: skip

    def test_what_sellers_may_sell_is_a_share_of_all_slots(self, lakehouse):
        shown = blocks(business.page(lakehouse))["Slots by authorisation of their seller, by day"]
        assert [trace["y"] for trace in shown.data] == [[0.75, 0.75], [0.2, 0.2], [0.05, 0.05]]
        assert "75.0 % of slots were offered by sellers that" in shown.reading.replace("\u00a0", " ")

    def test_no_author_can_be_told(self, lakehouse):
        assert "author-" not in html_of(lakehouse, business.TABLE)
        few = table("gold/psychosocial_daily", *({"author_id": f"author-{i}", "messages": 1} for i in range(4)))
        assert business.anonymous_days(few).is_empty()
        assert not business.sentiments(few).data
        assert not business.emotions(few).data

    def test_challengers_are_compared_with_champions_where_both_were_asked(self, tmp_path):
        rows = [
            {"tenant_id": "t", "document_id": name, "content_hash": f"h-{name}", "task": "threat", "label": label,
             "score": 0.5, "model_version": version, "traffic_arm": arm, DAY: day}
            for day in (DAY_1, DAY_2)
            for name, version, label, arm in (
                ("a", 2, "none", "champion"), ("a", 3, "arms", "shadow"),
                ("b", 2, "none", "shadow"), ("b", 3, "none", "challenger"),
                ("c", 2, "crime", "shadow"), ("c", 3, "hate", "challenger"),
                ("d", 2, "crime", "champion"),
            )
        ]  # fmt: skip
        lakehouse = lake(tmp_path, {"silver/decisions": rows})
        label = {"task": "threat", "labelled_at": NOON}
        lakehouse.replace_all("silver/labels", pl.DataFrame([
            {"label_id": "1", "content_hash": "h-a", "label": "none"} | label,
            {"label_id": "2", "content_hash": "h-a", "label": "arms"} | label,
            {"label_id": "3", "content_hash": "h-d", "label": "crime"} | label,
        ]))  # fmt: skip
        found = shadow_comparisons(lakehouse, [])
        assert found.rows(named=True) == [{
            "task": "threat", "champion": 2, "challenger": 3, "documents": 6, "answered": 4,
            "agreement": pytest.approx(1 / 3), "champion_score": 0.5, "challenger_score": 0.5,
            "labelled": 2, "champion_right": 0.0, "challenger_right": 1.0,
        }]  # fmt: skip
        (shown,) = ab_tests(found)
        assert "33.3\u00a0% of 6 documents" in shown.reading
        assert ab_tests(found.clear()) == []

    def test_a_page_is_named_by_its_materialisation(self, tmp_path):
        lakehouse = lake(tmp_path, {})
        shown = materialise(lakehouse, last=DAY_1)
        for name in ASSETS:
            assert shown[name].metadata["page"].value == f"{tmp_path}/{name}.html"
            assert shown[name].metadata["dagster/row_count"].value == 0

    def test_what_is_no_web_address_is_no_link(self):
        worst = table("gold/contextual_signals", a_page("javascript:alert(1)"), a_page("https://a.example/?q='\"><b>"))
        answers = table("silver/decisions").select("decision_id", "tenant_id", "document_id", "label", "decided_at")
        listing = risk.listing(risk.gravest(worst), answers)
        page = pages.Page("t", "p", "f", [], [pages.Section("s", [listing])], {}, [], {})
        rest = without_plotly(pages.render(page, NOW).decode())
        assert re.findall(r'<a href="([^"]*)"', rest) == ["https://a.example/?q=&#39;&#34;&gt;&lt;b&gt;"]

    def test_the_gravest_pages_are_shown_with_the_words_that_spoke_for_their_threat(self):
        evidence = [
            {"task": "iab_category", "label": "386", "words": ["vote"]},
            {"task": "threat", "label": "crime", "words": ["fraud", "court"]},
        ]
        worst = risk.gravest(table("gold/contextual_signals", a_page(evidence=evidence), a_page("https://b.example/")))
        answers = table("silver/decisions").select("decision_id", "tenant_id", "document_id", "label", "decided_at")
        shown = {row["url"]: row["words"] for row in risk.listing(worst, answers).rows}
        assert shown == {"https://news.example/a": "fraud, court", "https://b.example/": ""}


class TestLittleData:
    @pytest.mark.parametrize(
        "kept",
        [
            (),
            ("gold/contextual_signals",),
            ("silver/message_signals",),
            ("gold/ad_performance_hourly",),
            ("gold/psychosocial_daily", "silver/quarantine"),
            ("gold/rtb_hourly", "silver/rtb_auctions", "gold/inventory_daily", "gold/user_sync_hourly"),
        ],
    )
    def test_pages_say_where_there_is_no_data(self, tmp_path, kept):
        rows = {name: rows for name, rows in full_rows().items() if name in kept}
        lakehouse = lake(tmp_path, rows)
        materialise(lakehouse)
        for name in ASSETS:
            assert "No data." in html_of(lakehouse, name)

    @pytest.mark.parametrize("first", [True, False])
    def test_a_first_day_has_nothing_to_compare_with(self, tmp_path, first):
        day = DAY_1 if first else DAY_2
        rows = {name: [row for row in rows if row.get(DAY, DAY_1) == day] for name, rows in full_rows().items()}
        lakehouse = lake(tmp_path, rows)
        materialise(lakehouse)
        assert "One day so far" in html_of(lakehouse, risk.TABLE)

    def test_nothing_that_a_model_says_may_be_there_yet(self, tmp_path):
        unknown = dict.fromkeys([*JUDGED, "risk", "sentiment", "iab_category_name", "title"])
        rows = full_rows() | {"gold/contextual_signals": [a_page(**unknown)], "silver/decisions": []}
        rows["silver/message_signals"] = [a_message(**dict.fromkeys([*JUDGED, "iab_category_name"]))]
        lakehouse = lake(tmp_path, rows)
        materialise(lakehouse)
        assert "No page was judged in these days." in html_of(lakehouse, risk.TABLE)
        assert "No champion is recorded yet." in html_of(lakehouse, health.TABLE)


class TestRuns:
    def test_a_second_run_leaves_the_same_rows(self, tmp_path):
        lakehouse = lake(tmp_path, full_rows())
        materialise(lakehouse)
        once = {name: lakehouse.read(name) for name in ASSETS}
        materialise(lakehouse)
        for name, rows in once.items():
            key = [column for column in rows.columns if rows[column].dtype in (TEXT, pl.Date)]
            assert lakehouse.read(name).sort(key).equals(rows.sort(key)), name
            assert rows.height > 0, name

    def test_a_run_touches_its_own_days_only_and_none_is_stale_after(self, tmp_path):
        lakehouse = lake(tmp_path, full_rows())
        materialise(lakehouse)
        before = lakehouse.read(risk.TABLE, [str(DAY_2)])
        changed = table("gold/contextual_signals", a_page(label="adult", level="floor"))
        lakehouse.replace_days("gold/contextual_signals", [str(DAY_1)], changed)
        assert stale_days(lakehouse, risk.TABLE, risk.INPUTS) == [str(DAY_1)]
        materialise(lakehouse, last=DAY_1)
        assert lakehouse.read(risk.TABLE, [str(DAY_2)]).sort(risk.KEY).equals(before.sort(risk.KEY))
        for module in MODULES:
            assert stale_days(lakehouse, module.TABLE, module.INPUTS) == []

    def test_the_reports_are_found_and_described(self):
        found = {asset.key.to_user_string(): asset for asset in dg.load_assets_from_package_module(reports)}
        assert set(found) == {*ASSETS, suitability.TABLE}
        for asset in found.values():
            (spec,) = asset.specs
            assert "Key: event_date" in spec.description
            assert spec.group_name == "reports"
