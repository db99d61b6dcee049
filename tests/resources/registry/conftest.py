"""A registry that tests share, and models to register there."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from governance.gates.promotion import Verdict
from resources.registry.models import Registry
from signals.models.heads import LinearHead

TASK = "sentiment"


@pytest.fixture(scope="module")
def store(blank, tmp_path_factory):
    root = tmp_path_factory.mktemp("mlflow")
    shutil.copy(blank, root / "db")
    return Registry(tracking_uri=f"sqlite:///{root}/db", artifacts=f"{root}/art", cache=f"{root}/cache")


@pytest.fixture
def elsewhere(store, tmp_path):
    """The same registry as another machine sees it, which has fetched nothing yet."""
    return replace(store, cache=str(tmp_path / "cache"))


def trained(folder: Path, seed: int) -> Path:
    folder.mkdir()
    chance = np.random.default_rng(seed)
    LinearHead(
        labels=("negative", "positive"),
        vector_weights=chance.random((384, 2), dtype=np.float32),
        ngram_weights=chance.random((16, 2), dtype=np.float32),
        bias=np.zeros(2, np.float32),
    ).save(folder, task=TASK, transform_id="t1")
    return folder


def register(store: Registry, folder: Path, seed: int = 1, task: str = TASK, **metrics: float):
    return store.register(
        task, trained(folder / f"{task}-{seed}", seed), metrics or {"macro_f1": 0.7}, {"transform_id": "t1"}
    )


def judged(store: Registry, folder: Path, seed: int = 1, task: str = TASK, against: int | None = None, **said: bool):
    """Register a version that the gate has seen."""
    made = register(store, folder, seed, task)
    store.judge(made, Verdict(said.get("passed", True), "as it was measured", against))
    return made
