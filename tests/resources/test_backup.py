"""A backup that is restored elsewhere gives the same answers, and one that is not whole is not restored."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from governance.transform_comparisons import Comparisons
from resources.backup import BackupError, Places, backup, restore
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import registry
from resources.settings import load_settings
from resources.signal_store.look_up import look_up
from resources.signal_store.stores import signal_store
from tests.resources.registry.conftest import TASK, judged
from tests.support.cli import seamless
from tests.support.signals import NOON, record

TABLE, PAGE = "gold/contextual_signals", "https://a.example/x"


def settings_of(folder):
    return load_settings(
        lakehouse_uri=str(folder / "lake"),
        mlflow_tracking_uri=f"sqlite:///{folder}/mlflow.db",
        mlflow_artifacts=str(folder / "artifacts"),
        model_cache=folder / "models",
        signal_store=str(folder / "signals"),
    )


def places_of(folder):
    return Places.of(settings_of(folder), folder / ".dagster")


def answers(folder):
    """Return what an installation says: rows and their versions, a model's file, signals, and a run."""
    settings = settings_of(folder)
    lake, models = Lakehouse(uri=settings.lakehouse_uri), registry(settings)
    (version,) = models.versions(TASK)
    loaded = models.load(version, "t1", Comparisons())
    with closing(signal_store(settings)) as store:
        known = [answer.status for answer in look_up(store, "harbour", [PAGE], NOON)]
    with closing(sqlite3.connect(folder / ".dagster/history/runs.db")) as runs:
        ran = runs.execute("SELECT * FROM runs").fetchall()
    rows = lake.read(TABLE).sort("url").rows()
    return rows, lake.version(TABLE), loaded.digest, loaded.scorer.vector_weights.tolist(), known, ran


@pytest.fixture(scope="module")
def made(blank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    shutil.copy(blank, folder / "mlflow.db")
    lake = Lakehouse(uri=str(folder / "lake"))
    for count in (1, 2):
        rows = {"tenant_id": "harbour", "url": [PAGE] * count, "event_date": NOON.date()}
        lake.replace_days(TABLE, [str(NOON.date())], pl.DataFrame(rows))
    (folder / "lake/transforms").mkdir()
    (folder / "lake/transforms/t1.tar").write_bytes(b"bundle")
    settings = settings_of(folder)
    judged(registry(settings), folder)
    with closing(signal_store(settings)) as store:
        store.put([record(PAGE)])
    (folder / ".dagster/history").mkdir(parents=True)
    with closing(sqlite3.connect(folder / ".dagster/history/runs.db")) as runs, runs:
        runs.execute("CREATE TABLE runs (id TEXT)")
        runs.execute("INSERT INTO runs VALUES ('run-1')")
    return folder


@pytest.fixture
def copied(made, tmp_path):
    sizes = backup(places_of(made), tmp_path / "copy", datetime.now(UTC))
    assert {*sizes} == {"lake", "registry", "artifacts", "signals", "runs"}
    assert all(sizes.values())
    return tmp_path / "copy"


def test_an_installation_that_is_restored_elsewhere_gives_the_same_answers(made, copied, tmp_path):
    restore(copied, places_of(tmp_path / "other"))
    assert answers(tmp_path / "other") == answers(made)
    assert (tmp_path / "other/lake/transforms/t1.tar").read_bytes() == b"bundle"
    hidden = made.rename(made.with_name("gone"))
    try:
        shutil.rmtree(tmp_path / "other/models")
        assert answers(tmp_path / "other")[0]
    finally:
        hidden.rename(made)


def test_a_change_after_the_backup_is_not_in_it(made, copied, tmp_path):
    changed = Path(shutil.copytree(made, tmp_path / "changed"))
    Lakehouse(uri=str(changed / "lake")).replace_all(TABLE, pl.DataFrame({"url": ["later"], "event_date": NOON.date()}))
    restore(copied, places_of(tmp_path / "other"))
    assert answers(tmp_path / "other")[0] == answers(made)[0]


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "unfinished"])
def test_a_damaged_backup_is_not_restored(copied, tmp_path, damage):
    victim = next((copied / "lake").rglob("*.parquet"))
    if damage == "changed":
        victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    elif damage == "missing":
        victim.unlink()
    elif damage == "added":
        (copied / "lake/new").write_text("x")
    else:
        (copied / "backup.json").unlink()
    with pytest.raises(BackupError, match="no complete backup" if damage == "unfinished" else "is damaged: 1 files"):
        restore(copied, places_of(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_nothing_that_is_there_is_overwritten(made, copied):
    with pytest.raises(BackupError, match="is there already"):
        restore(copied, places_of(made))
    with pytest.raises(BackupError, match="is there already"):
        backup(places_of(made), copied, datetime.now(UTC))


def test_a_backup_that_fails_leaves_nothing(made, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        backup(places_of(made), tmp_path / "copy", datetime.now(UTC))
    assert list(tmp_path.iterdir()) == []


def test_servers_and_buckets_have_backups_of_their_own():
    elsewhere = load_settings(lakehouse_uri="s3://bucket/lake", signal_store="redis://localhost:6379/0")
    with pytest.raises(BackupError, match="LAKEHOUSE_URI, SIGNAL_STORE name servers or buckets"):
        Places.of(elsewhere, Path())


def test_the_commands_copy_and_put_back(made, tmp_path):
    saved = seamless(made, "backup", str(tmp_path / "copy"), DAGSTER_HOME=str(made))
    assert saved.returncode == 0, saved.stderr
    parts = "lake registry artifacts signals runs"
    assert " ".join(line.split()[-1] for line in saved.stdout.splitlines()) == parts
    refused = seamless(made, "restore", str(tmp_path / "copy"), DAGSTER_HOME=str(made))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    (tmp_path / "other").mkdir()
    back = seamless(tmp_path / "other", "restore", str(tmp_path / "copy"))
    assert (back.returncode, back.stdout) == (0, saved.stdout)
    assert answers(tmp_path / "other") == answers(made)
