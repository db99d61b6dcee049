"""Two years of days, each night's retention, and what each layer then holds, on disk too."""

from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from governance import catalog
from governance.retention import Hold, Policy, policy
from platform_assets.bronze.api_decisions import SCHEMA
from platform_assets.ingestion import candidate_files, ingest
from platform_assets.operations.retention import TABLE, expire, removed_days, retention
from resources.decision_spool import FOLDER, DecisionSpool
from resources.lakehouse.staleness import input_fingerprints
from resources.lakehouse.tables import Lakehouse
from resources.settings import settings
from resources.signal_store.entries import kept_for, keys_of, store_key
from resources.signal_store.stores import LocalStore
from sensors.stale_days import stale
from signals.consumer_record import HOLDS
from tests.support.graph import settled
from tests.support.signals import record

FIRST, TODAY = date(2024, 11, 1), date(2026, 12, 1)
NOW = datetime(2026, 12, 1, 3, tzinfo=UTC)
ALL = [FIRST + timedelta(days=n) for n in range((TODAY - FIRST).days + 1)]
BRONZE, SILVER, GOLD = "bronze/user_sync", "silver/user_sync", "gold/user_sync_hourly"
LAYERS = {BRONZE: 90, SILVER: 365, GOLD: 730, "operations/drift": 730, "bronze/user_profiles": 365}
HOLD = Hold(table=SILVER, first=date(2025, 3, 1), last=date(2025, 3, 9), why="a court's order")


def rows(days: list[date]) -> pl.DataFrame:
    return pl.DataFrame({"event_date": days, "position": range(len(days)), "text": [f"secret {day}" for day in days]})


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lakehouse:
    """Return a lakehouse with two years of days, after a night now and one a month ago."""
    lake = Lakehouse(uri=str(tmp_path_factory.mktemp("lake")))
    for table in LAYERS:
        lake.append_once(table, rows(ALL), {}, {})
    lake.replace_all("operations/model_versions", pl.DataFrame({"model_name": ["m"]}))
    kept = policy().model_copy(update={"holds": (HOLD,)})
    for now in (NOW - timedelta(days=30), NOW):
        expire(lake, kept, now)
    return lake


@pytest.mark.parametrize("table", LAYERS)
def test_each_layer_holds_the_days_that_it_keeps_and_the_disk_no_other(lake, table):
    oldest = TODAY - timedelta(days=LAYERS[table])
    expected = [day for day in ALL if day >= oldest or (table == SILVER and HOLD.first <= day <= HOLD.last)]
    assert lake.read(table)["event_date"].sort().to_list() == expected
    assert lake.days(table) == [str(day) for day in expected]
    files = {path.parent.name for path in Path(lake.location(table)).rglob("part-*.parquet")}
    assert files == {f"event_date={day}" for day in expected}
    log = b"".join(path.read_bytes() for path in (Path(lake.location(table)) / "_delta_log").glob("*.json"))
    assert b"secret" not in log
    assert len(list((Path(lake.location(table)) / "_delta_log").glob("*.json"))) == 1


def test_what_was_removed_is_a_row_once_and_tables_without_days_stay(lake):
    noted = lake.read(TABLE)
    assert noted.select(catalog.table(TABLE).key).is_duplicated().sum() == 0
    gone = {table: len(ALL) - lake.count(table) for table in LAYERS}
    assert dict(noted.group_by("table").agg(pl.col("rows").sum()).iter_rows()) == {t: n for t, n in gone.items() if n}
    assert {table: len(days) for table, days in removed_days(lake).items()} == {t: n for t, n in gone.items() if n}
    assert dict(noted.group_by("table").agg(pl.col("kept_days").unique().first()).iter_rows()).items() <= LAYERS.items()
    assert lake.count("operations/model_versions") == 1


def test_another_night_and_one_that_was_killed_change_nothing_more(tmp_path, monkeypatch):
    lake = Lakehouse(uri=str(tmp_path))
    days = [TODAY - timedelta(days=n) for n in (0, 89, 90, 91, 92)]
    lake.append_once(BRONZE, rows(days), {}, {})

    def die(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Lakehouse, "drop_days", die)
        with pytest.raises(RuntimeError):
            expire(lake, policy(), NOW)
    assert expire(lake, policy(), NOW) == {BRONZE: 2}
    assert expire(lake, policy(), NOW) == {}
    assert lake.count(BRONZE) == 3
    assert lake.read(TABLE)["rows"].to_list() == [1, 1]


def test_days_whose_inputs_have_expired_are_not_made_again(tmp_path):
    """A report of two inputs would otherwise lose what it has of the one that is kept for less long."""
    lake = Lakehouse(uri=str(tmp_path))
    inputs = {"reports/risk_analysis": (SILVER, GOLD)}
    old, young = TODAY - timedelta(days=400), TODAY - timedelta(days=10)
    for table in (SILVER, GOLD):
        lake.append_once(table, rows([old, young]), {}, {})
    made = input_fingerprints(lake, "reports/risk_analysis", inputs["reports/risk_analysis"], [str(old), str(young)])
    lake.replace_days("reports/risk_analysis", [str(old), str(young)], rows([old, young]), checkpoints=made)
    assert stale(lake, inputs, TODAY) == {}
    expire(lake, policy(), NOW)
    assert lake.count(SILVER) == 1
    assert stale(lake, inputs, TODAY) == {}
    lake.append_once(GOLD, rows([old, young]), {}, {})
    assert stale(lake, inputs, TODAY) == {"reports/risk_analysis": [str(young)]}


def test_every_layer_says_how_long_it_is_kept_and_a_typing_error_is_one():
    assert {*policy().days} - {*catalog.tables()} == {"bronze", "silver", "gold", "reports", "operations"}
    assert policy().kept_days(catalog.table("published/signal_store")) > HOLDS.days
    for wrong in ({"days": {"bronze": 0}}, {"days": {}, "hold": []}, {"days": {"bronze": "long"}}):
        with pytest.raises(ValueError, match="validation error"):
            Policy.model_validate(wrong)


def spooled(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "decisions" / FOLDER).iterdir())


def test_a_night_removes_old_signals_and_the_decisions_of_the_api_that_bronze_has(tmp_path):
    lake, now = Lakehouse(uri=str(tmp_path / "lake")), datetime.now(UTC)
    decision = {"tenant_id": "t", "asked_on": str(now.date()), "instruction_set": "i", "decision": {}}
    old, young = record("https://a.example/old", at=now - kept_for()), record("https://b.example/young", at=now)
    with settled(tmp_path), closing(DecisionSpool(settings().decision_spool)) as spool:
        with closing(LocalStore(tmp_path / "signals")) as store:
            store.put([old, young])
        spool.append([decision | {"decision_id": "a"}])

        def land() -> None:
            ingest(lake, SCHEMA, candidate_files(lake, SCHEMA)[0], now)

        def night() -> dict[str, object]:
            resources = {"lakehouse": lake, "open_signal_store": partial(LocalStore, tmp_path / "signals")}
            (made,) = dg.materialize([retention], resources=resources).get_asset_materialization_events()
            metadata = made.materialization.metadata
            return {name: metadata[name].value for name in ("entries", "spooled_files")}

        land()
        (first,) = spooled(tmp_path)
        assert night() == {"entries": len(keys_of(old)), "spooled_files": 0}
        # Its writer goes on in another file: what is written now cannot be in one that is removed.
        spool.append([decision | {"decision_id": "b"}])
        land()
        assert night() == {"entries": 0, "spooled_files": 1}
        (second,) = spooled(tmp_path)
        assert second != first
        land()
        assert night() == {"entries": 0, "spooled_files": 1}
        assert sorted(lake.read(SCHEMA.table)["decision_id"]) == ["a", "b"]
    with closing(LocalStore(tmp_path / "signals")) as store:
        found = store.get_many([store_key("harbour", page["document_id"]) for page in (old, young)])
    assert [entry is not None for entry in found] == [False, True]
