"""A graph of a test's own: it lands records, runs everything as `seamless run` does, and reads tables."""

import json
import os
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from governance import catalog
from resources.lakehouse.days import DAY
from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT, configure, settings
from serving.cli.run import Report, run
from serving.stream.worker import stream

# What says when and by which run a row was made, not what it is.
OF_THE_RUN = (
    "answered_at",
    "decided_at",
    "position",
    "source",
    "input_version",
    "measured_at",
    "received_at",
    "run_id",
    "served_by",
    "training_tables",
)
# Copies of the registry, what says how the platform itself did, and the day on which a text first came.
OF_THE_PLATFORM = ("operations/", "reports/platform_health", "reports/model_monitoring")


@contextmanager
def settled(folder: Path, **given: Any) -> Generator[None]:
    """Have this process's settings be those of a platform that keeps all that it keeps in one folder."""
    before = settings()
    own = {
        "lakehouse_uri": str(folder / "lake"),
        "mlflow_tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "mlflow_artifacts": str(folder / "artifacts"),
        "model_cache": folder / "models",
        "signal_store": str(folder / "signals"),
        "decision_spool": folder / "decisions",
        "access_log": str(folder / "access"),
        "access_anchors": str(folder / "anchors"),
        "privacy_requests": folder / "requests",
    }
    configure(**own | given)
    try:
        yield
    finally:
        configure(**before.model_dump())


class Graph:
    """A lakehouse, a landing folder and, where they are given, the models of another state and a broker."""

    def __init__(self, folder: Path, models: Path | None = None, broker: str | None = None) -> None:
        self.folder, self.landing, self.broker = folder, folder / "landing", broker
        self.landing.mkdir(parents=True)
        self.lake = Lakehouse(uri=str(folder / "lake"))
        if models is not None:
            shutil.copy(models / "mlflow.db", folder / "mlflow.db")
            shutil.copytree(models / "models", folder / "models")
        self.artifacts = folder / "artifacts" if models is None else models / "artifacts"
        told = (PROJECT / "dagster.yaml").read_text()
        (folder / "dagster.yaml").write_text(told.replace(": .dagster", f": {folder}/.dagster"))

    def land(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Have a file of JSON lines land, or one that is there grow."""
        file = self.landing / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8", errors="surrogatepass") as lines:
            lines.writelines(json.dumps(record) + "\n" for record in records)

    def run(self) -> Report:
        """Bring everything up to date."""
        with self.settled():
            return run(lambda *_: None)

    def stream(self) -> None:
        """Take through what is in the broker's topics."""
        with self.settled():
            stream(settings(), until_drained=True, log=lambda _: None)

    @contextmanager
    def settled(self) -> Generator[None]:
        """Have this process's settings be those of the graph."""
        home = os.environ.get("DAGSTER_HOME")
        os.environ["DAGSTER_HOME"] = str(self.folder)
        given = {"landing": self.landing, "kafka_bootstrap_servers": self.broker}
        try:
            with settled(self.folder, mlflow_artifacts=str(self.artifacts), **given):
                yield
        finally:
            os.environ.pop("DAGSTER_HOME")
            if home is not None:
                os.environ["DAGSTER_HOME"] = home

    def read(self, table: str) -> pl.DataFrame:
        """Return the rows of a table, in an order of their own, without what says by which run they were made."""
        known = set(catalog.tables()[table].key)
        rows = self.lake.read(table)
        left_out = [
            name for name in (*OF_THE_RUN, *((DAY,) if table == "silver/embeddings" else ())) if name not in known
        ]
        rows = rows.drop(left_out, strict=False)
        return rows.select(sorted(rows.columns)).sort(sorted(known & {*rows.columns}))

    def tables(self) -> list[str]:
        """Return the tables that are made from records alone, and exist."""
        return [name for name in catalog.tables() if not name.startswith(OF_THE_PLATFORM) and self.lake.exists(name)]
