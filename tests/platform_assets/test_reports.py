import json
import re
from datetime import timedelta
from html import unescape

import dagster as dg
import polars as pl
import pytest

from platform_assets import reports
from platform_assets.operations import label_latency
from platform_assets.reports import audience, context, suitability
from platform_assets.reports import business_insights as business
from platform_assets.reports import model_monitoring as monitoring
from platform_assets.reports import page as pages
from platform_assets.reports import platform_health as health
from platform_assets.reports import risk_analysis as risk
from platform_assets.reports.ab_tests import ab_tests, shadow_comparisons
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import stale_days
from tests.support.reports import (
    ASSETS,
    DAY_1,
    DAY_2,
    GAP,
    HOSTILE,
    JUDGED,
    MODEL,
    MODULES,
    NOON,
    TEXT,
    WHOLE,
    a_message,
    a_page,
    a_window,
    blocks,
    charts,
    events,
    full_rows,
    html_of,
    lake,
    materialise,
    table,
    without_plotly,
)


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

    def test_monitoring_says_what_a_task_leaves_out_and_what_that_gains(self, lakehouse):
        table = blocks(monitoring.page(lakehouse))["Answered and right, by the least confidence that is answered"]
        (row,) = table.rows
        assert (row["task"], row["sure_from"]) == ("threat", 0.62)
        assert [row[name] for name in ("0.0", "0.5", "0.6")] == ["100%, 80% right", "90%, 85% right", None]
        assert {column.name for column in table.columns} == set(row)
        materialise(lakehouse)
        stored = lakehouse.read(monitoring.TABLE).filter(pl.col("task") == "threat")
        assert stored["sure_from"].to_list() == [0.62, 0.62]
        assert stored["coverage_curve"][0].to_list()[1] == {"from": 0.5, "coverage": 0.9, "accuracy": 0.85}
        assert lakehouse.read(monitoring.TABLE).filter(pl.col("task") == "hate")["sure_from"].to_list() == [None]

    def test_a_task_drifts_whose_last_days_that_are_over_do(self, lakehouse):
        days = [DAY_1 + timedelta(days=i) for i in range(6)]

        def finding(drifted):
            has = {"+": True, "-": False, "?": None}
            windows = [a_window(drifted=has[d], event_date=day) for d, day in zip(drifted, days, strict=True)]
            behind = pages.Section("", [])
            rows = monitoring.with_curves(table("operations/drift", *windows), lakehouse)
            return monitoring.build_page(rows, behind, {}, days[-1]).finding

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
        assert audience.anonymous_days(few).is_empty()
        assert not audience.sentiments(few).data
        assert not audience.emotions(few).data

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
