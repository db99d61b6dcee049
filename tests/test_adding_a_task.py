"""A task is added by one file: training, gate, decisions, signals and report follow, with no other edit."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT
from tests.conftest import environment, instance

pytestmark = pytest.mark.slow
PARTS = ("signals", "governance", "resources", "platform_assets", "sensors", "serving", "dbt_gold")
DECLARATION = '''"""Does the writer want an answer at once?"""

from signals.tasks import Task

TASK = Task(
    name="urgency",
    labels=("calm", "urgent"),
    documents=("message",),
    metric="macro_f1",
    floor=0.6,
    retrain_after=20,
)
'''
TEXTS = {
    "urgent": "The server is down, fix it right now, ticket {}!",
    "calm": "No hurry, have a look at note {} some day.",
}
LABELS = 60
ASKING = """
import json, sys
from serving.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    print(end="\\0")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with one file more."""
    folder = tmp_path_factory.mktemp("project")
    for part in PARTS:
        shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "requirements.lock", folder)
    (folder / "signals" / "tasks" / "urgency.py").write_text(DECLARATION)
    return folder


def landed(folder: Path) -> None:
    """Have messages land, and answers of reviewers to the task."""
    now = datetime.now(UTC).isoformat()
    texts = [(label, text.format(number)) for number in range(LABELS) for label, text in TEXTS.items()]
    labels = [
        {"label_id": f"u-{n}", "task": "urgency", "label": label, "text": text, "labelled_at": now}
        for n, (label, text) in enumerate(texts)
    ]
    messages = [
        {"message_id": f"m-{label}", "author_id": "u-1", "text": text.format("from today"), "sent_at": now}
        for label, text in TEXTS.items()
    ]
    for name, records in (("labels", labels), ("messages", messages)):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))


def seamless(project: Path, folder: Path, *commands: tuple[str, ...]) -> list[str]:
    """Return what the command line of the copy says to commands, one after the other in one process."""
    env = environment(folder) | {"LANDING": str(folder / "landing"), "PYTHONPATH": str(project)}
    asked = [sys.executable, "-c", ASKING, json.dumps(commands)]
    ran = subprocess.run(asked, cwd=project, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\0")


def test_one_file_gives_training_gate_decisions_signals_and_report(project: Path, tmp_path: Path, blank: Path):
    instance(tmp_path)
    shutil.copy(blank, tmp_path / "mlflow.db")
    landed(tmp_path / "landing")
    (tmp_path / "text.txt").write_text("The printer is down, fix it right now!\n")
    predict = ("predict", "--task", "urgency", "--input", str(tmp_path / "text.txt"))
    _, shown, predicted, _ = seamless(project, tmp_path, ("run",), ("models", "show", "urgency"), predict)
    assert "champion" in shown
    lake = Lakehouse(uri=str(tmp_path / "lake"))
    decided = lake.read("silver/decisions").filter(pl.col("task") == "urgency")
    assert dict(decided.select("document_id", "label").rows()) == {"m-urgent": "urgent", "m-calm": "calm"}
    signals = lake.read("silver/message_signals")
    assert dict(signals.select("message_id", "urgency").rows()) == {"m-urgent": "urgent", "m-calm": "calm"}
    versions = lake.read("operations/model_versions").filter(pl.col("task") == "urgency")
    assert versions["rows_train"].item() + versions["rows_val"].item() == 2 * LABELS
    promoted = lake.read("operations/promotions").filter(pl.col("task") == "urgency")
    assert promoted.select("action", "model_version").rows() == [("promotion", 1)]
    assert "urgency" in (tmp_path / "lake" / "reports" / "platform_health.html").read_text()
    assert "urgent" in predicted
