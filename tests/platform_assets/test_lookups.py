"""What comes or changes later marks exactly the days that refer to it, and nothing once they are made again."""

from datetime import UTC, date, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import dagster as dg
import polars as pl
import pytest

from governance import catalog
from platform_assets import lookups
from platform_assets.bronze import SCHEMAS
from platform_assets.bronze.ad_events import SCHEMA as EVENTS
from platform_assets.bronze.inventory import SCHEMA as SNAPSHOTS
from platform_assets.bronze.review_labels import SCHEMA as LABELS
from platform_assets.bronze.seller_declarations import SCHEMA as DECLARATIONS
from platform_assets.bronze.social_messages import SCHEMA as MESSAGES
from platform_assets.bronze.user_profiles import SCHEMA as PROFILES
from platform_assets.parsing import TIME, declared, parse_records
from platform_assets.publishing import QUARANTINE, input_checkpoints
from platform_assets.silver import ad_events, inventory, labels, message_features, messages, rtb_auctions, user_sync
from resources.lakehouse.days import DAY
from resources.lakehouse.staleness import stale_days
from resources.lakehouse.tables import Lakehouse
from resources.landing.records import Record

MON, TUE, WED, THU = DAYS = ["2026-11-09", "2026-11-10", "2026-11-11", "2026-11-12"]
NOW = datetime(2026, 11, 12, 12, tzinfo=UTC)
ASSETS = {
    "silver/ad_events": ad_events.ad_events,
    "silver/inventory": inventory.inventory,
    "silver/labels": labels.labels,
    "silver/message_features": message_features.message_features,
    "silver/messages": messages.messages,
    "silver/rtb_auctions": rtb_auctions.rtb_auctions,
    "silver/user_sync": user_sync.user_sync,
}
PAGE = {
    "tenant_id": pl.String, "document_id": pl.String, "normalized_url": pl.String, "url": pl.String, "title": pl.String,
    "text": pl.String, "content_hash": pl.String, "fetched_at": TIME, "source": pl.String, "position": pl.Int64,
    DAY: pl.Date,
}  # fmt: skip
IMAGE = {name: PAGE[name] for name in ("tenant_id", "document_id", "content_hash", "fetched_at", DAY)}
DELIVERED = {expected.table: expected for expected in SCHEMAS}
WHOLE = {
    "bronze/ad_events": {"impression_id": "i", "campaign_id": "c"},
    "bronze/review_labels": {"task": "irony", "label": "irony", "text": "so good"},
    "bronze/social_messages": {"author_id": "ann", "text": "hello"},
    "bronze/user_sync": {"user_id": "u", "partner": "p"},
}


class World:
    """A lakehouse, what lands in it, and what is behind there."""

    def __init__(self, folder):
        self.lake, self.numbers = Lakehouse(uri=str(folder)), count(1)
        for expected in SCHEMAS:
            self.land(expected)
        for table, schema in (("pages", PAGE), ("images", IMAGE)):
            self.lake.insert_missing(f"silver/{table}", pl.DataFrame(schema=schema), ["document_id"])
        sent, profiles = (declared(parse_records([], of, "", NOW)[0], of) for of in (MESSAGES, PROFILES))
        self.lake.insert_missing("silver/messages", messages.cleaned(sent, profiles), ["message_id"])

    def land(self, expected, *records):
        number = next(self.numbers)
        landed = [Record(position, fields) for position, fields in enumerate(records, 1)]
        rows, broken = parse_records(landed, expected, f"{number}.jsonl", NOW + timedelta(seconds=number))
        assert broken.is_empty(), broken
        self.lake.append_once(expected.table, rows, {}, {})

    def fetch(self, *pages):
        """Put pages of (document, url, day, title) in the place of those of their days."""
        rows = [
            (
                tenant,
                document,
                url,
                url,
                title,
                "text",
                f"h-{document}",
                moment(day),
                "p",
                n,
                date.fromisoformat(day),
            )
            for n, (document, url, day, title, tenant) in enumerate(pages)
        ]
        made = pl.DataFrame(rows, schema=PAGE, orient="row")
        self.lake.replace_days("silver/pages", sorted({page[2] for page in pages}), made)

    def behind(self, table):
        lookups.invalidate(self.lake)
        inputs = ASSETS[table].metadata_by_key[dg.AssetKey(table.split("/"))]["inputs"]
        return stale_days(self.lake, table, inputs, streamed=catalog.table(table).streamed)

    def make(self, *tables, order=1):
        """Make what is behind, day by day, and look that nothing is behind then, nor made again for a look."""
        for table in tables:
            for day in self.behind(table)[::order]:
                # Without a run of Dagster's around it, which takes three times as long.
                ASSETS[table].op.compute_fn.decorated_fn(SimpleNamespace(partition_keys=[day]), self.lake)
        for table in tables:
            assert self.behind(table) == []
        versions = [self.lake.version(table) for table in tables]
        lookups.invalidate(self.lake)
        assert [self.lake.version(table) for table in tables] == versions

    def told(self, table, key, *columns):
        return sorted(self.lake.read(table).select(key, *columns).rows())


def moment(day, hour=8):
    return datetime.fromisoformat(f"{day}T{hour:02}:00:00+00:00")


def at(day, hour=8):
    return moment(day, hour).isoformat()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def message(name, author, day, **more):
    return {"message_id": name, "author_id": author, "text": "hello", "sent_at": at(day)} | more


def test_consent_that_is_withdrawn_marks_the_days_of_its_author(world):
    world.land(MESSAGES, message("m1", "ann", MON), message("m2", "bob", TUE), message("m3", "ann", WED))
    world.land(PROFILES, {"user_id": "ann", "consent": True, "updated_at": at(MON)})
    world.make("silver/messages")
    world.land(PROFILES, {"user_id": "zoe", "consent": False, "updated_at": at(TUE)})
    assert world.behind("silver/messages") == []
    world.land(PROFILES, {"user_id": "ann", "consent": False, "updated_at": at(TUE)})
    assert world.behind("silver/messages") == [MON, WED]
    world.make("silver/messages")
    assert world.told("silver/messages", "message_id", "author_consents") == [
        ("m1", False),
        ("m2", None),
        ("m3", False),
    ]


def test_a_message_that_comes_after_its_answer_marks_the_answers_day(world):
    world.land(MESSAGES, message("m2", "bob", TUE, reply_to="m1"), message("m3", "zoe", WED), message("m4", "zoe", THU))
    world.make("silver/messages", "silver/message_features")
    world.land(MESSAGES, message("m1", "ann", MON), message("m0", "ann", THU))
    world.make("silver/messages")
    assert world.behind("silver/message_features") == [MON, TUE, THU]
    world.make("silver/message_features")
    delays = dict(world.told("silver/message_features", "message_id", "response_delay_s"))
    assert delays == {"m0": None, "m1": None, "m2": 86_400.0, "m3": None, "m4": None}
    # Its day is made again, but nothing of it that an answer looks up has changed.
    world.land(PROFILES, {"user_id": "ann", "consent": True})
    world.make("silver/messages")
    assert world.behind("silver/message_features") == [MON, THU]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("https://e.org/a", "silver/pages"),
        ("https://E.org/seen#top", "silver/pages"),
        ("m1", "silver/messages"),
        ("https://e.org/a.png", "silver/images"),
    ],
)
def test_a_document_that_comes_after_its_label_marks_the_labels_day(world, name, table):
    said = {"task": "image_threat", "label": "safe"}
    world.land(
        LABELS,
        said | {"label_id": "1", "document_id": name, "labelled_at": at(TUE)},
        said | {"label_id": "2", "document_id": "https://e.org/none", "labelled_at": at(MON)},
        said | {"label_id": "3", "text": "carried", "labelled_at": at(WED)},
    )
    world.make("silver/labels")
    assert world.told("silver/labels", "label_id") == [("3",)]
    world.fetch(("https://e.org/other", "https://e.org/other", WED, "Title", "default"))
    assert world.behind("silver/labels") == []
    document = "https://e.org/a" if table == "silver/pages" else name
    if table == "silver/pages":
        world.fetch((document, name.lower().removesuffix("#top"), THU, "Title", "default"))
    elif table == "silver/messages":
        world.land(MESSAGES, message(name, "ann", THU))
        world.make(table)
    else:
        row = {"tenant_id": "default", "document_id": name, "content_hash": "0" * 64, "fetched_at": NOW}
        images = pl.DataFrame([row | {DAY: NOW.date()}], schema=IMAGE)
        world.lake.insert_missing(table, images, ["document_id"])
    assert world.behind("silver/labels") == [TUE]
    world.make("silver/labels")
    assert world.told("silver/labels", "label_id", "document_id") == [("1", document), ("3", None)]
    assert world.lake.read(QUARANTINE)["rule"].to_list() == ["document_unknown"]


def test_labels_that_name_no_document_are_behind_none(world):
    carried = {"label_id": "1", "task": "x", "label": "y", "text": "carried", "labelled_at": at(MON)}
    world.land(LABELS, carried)
    world.make("silver/labels")
    world.fetch(("https://e.org/a", "https://e.org/a", TUE, "Title", "default"))
    assert world.behind("silver/labels") == []


def test_a_page_that_is_fetched_again_marks_its_labels_days_only_where_it_says_something_else(world):
    document = "https://e.org/a"
    world.land(LABELS, {"label_id": "1", "task": "x", "label": "y", "document_id": document, "labelled_at": at(MON)})
    world.fetch((document, document, TUE, "Title", "default"))
    world.make("silver/labels")
    world.fetch((document, document, WED, "Title", "default"))
    assert world.behind("silver/labels") == []
    pages = world.lake.read("silver/pages", [WED]).with_columns(content_hash=pl.lit("another"))
    world.lake.replace_days("silver/pages", [WED], pages)
    assert world.behind("silver/labels") == [MON]
    world.make("silver/labels")
    assert world.told("silver/labels", "label_id", "content_hash") == [("1", "another")]


@pytest.mark.parametrize("expected", [EVENTS, SNAPSHOTS], ids=lambda expected: expected.table)
def test_an_address_that_comes_to_name_another_document_marks_the_days_on_which_it_was_seen(world, expected):
    table = expected.table.replace("bronze", "silver")
    records = [
        {expected.key: f"e{n}", expected.event_time: at(day), "url": f"https://E.org/{path}"}
        | WHOLE.get(expected.table, {})
        for n, (path, day) in enumerate((("seen", MON), ("else", TUE), ("seen#top", THU)))
    ]
    world.land(expected, *records)
    world.land(DECLARATIONS)
    world.make(table)
    world.fetch(("https://e.org/a", "https://e.org/seen", WED, "Title", "default"))
    assert world.behind(table) == [MON, THU]
    world.make(table)
    documents = [("e0", "https://e.org/a"), ("e1", "https://e.org/else"), ("e2", "https://e.org/a")]
    assert world.told(table, expected.key, "document_id") == documents
    world.fetch(("https://e.org/a", "https://e.org/seen", WED, "Another title", "default"))
    assert world.behind(table) == []
    # Fetched again on other days it names the same, and so does what is not the newest.
    world.fetch(("https://e.org/a", "https://e.org/seen", THU, "Title", "default"))
    world.fetch(("https://e.org/b", "https://e.org/seen", TUE, "Title", "default"))
    assert world.behind(table) == []
    world.fetch(("https://e.org/c", "https://e.org/c", THU, "Title", "other"))
    world.fetch(("https://e.org/b", "https://e.org/seen", WED, "Another title", "default"))
    assert world.behind(table) == [MON, THU]


DELIVERIES = [table for table in catalog.tables().values() if table.deliveries]


def delivery(table, day, **more):
    """Return a delivery of one record, which is the better the earlier its day."""
    expected = DELIVERED[table.deliveries]
    record = WHOLE.get(expected.table, {}) | {expected.key: "one", expected.event_time: at(day)} | more
    newest = {"updated_at": at(DAYS[-1 - DAYS.index(day)])} if "-updated_at" in table.prefer else {}
    return expected, record | newest


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, -1], ids=["oldest day first", "newest day first"])
@pytest.mark.parametrize("table", DELIVERIES, ids=lambda table: table.name)
def test_a_better_delivery_on_another_day_marks_the_day_of_the_one_before_it(world, table, order):
    world.land(*delivery(table, TUE))
    world.make(table.name)
    world.land(*delivery(table, THU))
    assert world.behind(table.name) == [THU]
    world.make(table.name)
    world.land(*delivery(table, TUE, tenant_id="other"))
    assert world.behind(table.name) == [TUE]
    world.make(table.name)
    world.land(*delivery(table, MON))
    assert world.behind(table.name) == [MON, TUE]
    world.make(table.name, order=order)
    key = table.key[-1]
    assert world.told(table.name, key, "tenant_id", DAY) == [
        ("one", "default", date.fromisoformat(MON)),
        ("one", "other", date.fromisoformat(TUE)),
    ]
    again = world.lake.read(QUARANTINE).sort(DAY)
    assert again.select("rule", DAY).rows() == [("duplicate_key", date.fromisoformat(day)) for day in (TUE, THU)]


@pytest.mark.slow
@pytest.mark.parametrize("table", DELIVERIES, ids=lambda table: table.name)
def test_what_is_published_of_deliveries_depends_on_no_order_of_coming_and_making(tmp_path, table):
    found = []
    for number, days in enumerate(((MON, TUE, THU), (THU, TUE, MON), (TUE, MON, THU))):
        world = World(tmp_path / str(number))
        for day in days:
            world.land(*delivery(table, day))
            world.make(table.name, order=-1 if number else 1)
        found.append((world.told(table.name, table.key[-1], DAY), sorted(world.lake.read(QUARANTINE)[DAY])))
    assert found[0] == found[1] == found[2]
    assert found[0][0] == [("one", date.fromisoformat(MON))]


def test_pages_that_are_judged_otherwise_mark_the_days_of_events_on_them(world):
    table = catalog.table("gold/ad_performance_hourly")
    pages = {"a": "https://e.org/a", "b": "https://e.org/b"}
    world.land(
        EVENTS,
        *(
            WHOLE[EVENTS.table] | {"event_id": f"e{n}", "event_time": at(day), "url": pages[page]}
            for n, (page, day) in enumerate((("a", MON), ("b", TUE), ("a", WED)))
        ),
    )
    world.make("silver/ad_events")
    inputs = ["silver/ad_events"]

    def judged(risk, keywords, document="a"):
        row = {
            "tenant_id": "t",
            "document_id": pages[document],
            "fetched_at": NOW,
            "iab_category_name": "x",
            "sentiment": "neutral",
            "threat": "none",
            "risk": risk,
        }
        rows = pl.DataFrame([row | {"keywords": keywords, DAY: date.fromisoformat(THU)}])
        world.lake.replace_days("silver/page_signals", [THU], rows)

    def behind():
        lookups.invalidate(world.lake)
        return stale_days(world.lake, table.name, inputs)

    def make():
        days = behind()
        marks = input_checkpoints(world.lake, table.name, inputs, days)
        world.lake.replace_days(table.name, days, world.lake.read("silver/ad_events", days), checkpoints=marks)
        assert behind() == []

    make()
    judged("low", "one")
    assert behind() == [MON, WED]
    make()
    judged("low", "another")
    assert behind() == []
    judged("high", "another")
    assert behind() == [MON, WED]
    make()
    judged("high", "another", "b")
    assert behind() == [MON, TUE, WED]


def test_what_changes_while_days_are_made_leaves_them_behind(world):
    world.land(MESSAGES, message("m1", "ann", MON))
    world.make("silver/messages")
    world.land(PROFILES, {"user_id": "ann", "consent": False})
    assert world.behind("silver/messages") == [MON]
    marks = input_checkpoints(world.lake, "silver/messages", messages.INPUTS, [MON])
    world.land(PROFILES, {"user_id": "ann", "consent": True})
    world.lake.replace_days("silver/messages", [MON], world.lake.read("silver/messages", [MON]), checkpoints=marks)
    assert world.behind("silver/messages") == [MON]
    world.make("silver/messages")
    assert world.told("silver/messages", "message_id", "author_consents") == [("m1", True)]
