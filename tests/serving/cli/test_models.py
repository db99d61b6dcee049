"""`seamless models` as a person uses it, on the lake of the samples."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from governance.gates.promotion import Verdict
from platform_assets.operations import promotions
from resources.encoder import Encoder
from resources.lakehouse.tables import lakehouse
from resources.registry.models import Registry, registry
from resources.registry.versions import promotion_log
from resources.serving_models import serving
from resources.settings import configure, settings
from serving.cli import main
from serving.cli.models import models_app
from signals.models.heads import load_head
from signals.traffic import Traffic
from tests.conftest import environment

pytestmark = pytest.mark.slow


@pytest.fixture
def models(home: Path, tmp_path: Path) -> Iterator[Registry]:
    """Return a copy of the registry that the graph has filled from the samples; this process works on it."""
    before = settings()
    shutil.copy(home / "mlflow.db", tmp_path / "mlflow.db")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment(tmp_path).items():
            patched.setenv(name, value)
        yield registry(configure())
    configure(**before.model_dump())


@pytest.fixture
def say() -> Callable[..., str]:
    """Return a function that runs a command which succeeds, and returns what it says."""

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(models_app, [str(one) for one in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    return run


def second(models: Registry, folder: Path, *, passed: bool = True) -> None:
    """Register version 2 of irony: the first, a little surer of itself."""
    first = models.champion("irony")
    head = load_head(models.fetch(first))
    folder.mkdir()
    described = json.loads((models.fetch(first) / "model.json").read_text())
    head.save(folder, task="irony", transform_id=described["transform_id"])
    (folder / "model.json").write_text(json.dumps(described | {"temperature": head.temperature * 0.9}))
    made = models.register("irony", folder, first.metrics, first.record)
    models.judge(made, Verdict(passed, "as good", first.version))


def test_promotion_traffic_and_rollback_take_effect_and_are_told(models, say, tmp_path):
    second(models, tmp_path / "second")
    known = serving(registry(settings()), Encoder())
    assert known.models is known.refreshed().models, "nothing has changed, so nothing is loaded"

    assert "10% of traffic version 2" in say("traffic", "irony", "--challenger", 2, "--share", 0.1, "--by", "ada")
    assert models.traffic()["irony"] == Traffic(1, 2, 0.1)
    assert known.refreshed().models.challengers["irony"].version == 2
    assert "shadow" in say("traffic", "irony", "--challenger", 2, "--shadow")
    listed = say("list")
    assert "champion" in listed
    assert "shadow" in listed
    say("traffic", "irony", "--off")
    assert models.traffic()["irony"] == Traffic(1)

    assert "dev.irony version 2 is champion in dev" in say(
        "promote", "irony", "--version", 2, "--to", "dev", "--by", "ada"
    )
    assert known.refreshed().models.champions["irony"].version == 2
    said = say("rollback", "irony", "--why", "complaints", "--by", "eve")
    assert "version 1 is champion, version 2 was" in said
    assert known.refreshed().models.champions["irony"].version == 1

    shown = say("show", "irony")
    assert "rollback to version 1, instead of version 2, by eve: complaints" in shown
    assert "promotion to version 2, instead of version 1, by ada: by hand" in shown
    assert "version 2 challenges: 10% of traffic, by ada" in shown
    assert "version 1: champion" in shown
    recorded = promotions.recorded(models)
    assert recorded.height == sum(len(promotion_log(models.versions(task))) for task in models.traffic())
    assert promotions.behind(lakehouse(settings()), models)


def test_a_tested_version_goes_to_production_with_the_same_bytes(models, say):
    said = say("promote", "hate", "--to", "prod", "--why", "tested", "--by", "ada")
    tested, copied = models.champion("hate"), models.for_environment("prod").champion("hate")
    assert copied.digest == tested.digest
    assert tested.digest[:16] in said
    assert copied.promoted.by == "ada"
    assert say("promote", "hate", "--to", "prod", "--by", "ada") == said
    assert len(models.for_environment("prod").versions("hate")) == 1
    assert "prod         hate" in say("list")


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("promote", "irony"), 2, "--to"),
        (("promote", "nothing", "--to", "prod"), 2, "there is no task 'nothing'; there are emotion"),
        (("promote", "irony", "--to", "moon"), 2, "moon"),
        (("promote", "irony", "--to", "prod", "--version", "9"), 1, "task irony has no version 9 in dev"),
        (("rollback", "irony"), 1, "task irony had no champion before version 1 in dev"),
        (("rollback", "irony", "--without", "hate"), 2, "it goes with the encoder"),
        (("rollback", "encoder", "--without", "nothing"), 2, "there is no task 'nothing'"),
        (("traffic", "irony", "--share", "0.1"), 2, "--challenger VERSION"),
        (("traffic", "irony", "--challenger", "2", "--share", "2"), 2, "--share"),
        (("traffic", "irony", "--challenger", "1", "--shadow"), 1, "is the champion"),
        (("add-image", "nothing.onnx"), 2, "nothing.onnx is no file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("models")
def test_what_cannot_be_is_refused_in_one_line(arguments, code, why, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["seamless", "models", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (code, 1)
    assert why in said


def test_a_version_that_has_not_passed_the_gate_goes_nowhere(models, tmp_path):
    second(models, tmp_path / "second", passed=False)
    for arguments in (
        ("promote", "irony", "--version", "2", "--to", "prod"),
        ("promote", "irony", "--version", "2", "--to", "dev"),
        ("rollback", "irony", "--to", "2"),
        ("traffic", "irony", "--challenger", "2", "--share", "0.5"),
    ):
        result = CliRunner().invoke(models_app, list(arguments))
        assert result.exit_code == 1
        assert "has not passed the gate: as good" in str(result.exception)
    assert models.traffic()["irony"] == Traffic(1)
    assert models.for_environment("prod").versions("irony") == []


@pytest.mark.parametrize("command", ["list", "show", "promote", "rollback", "traffic", "add-image"])
def test_help_says_what_each_option_is(command, say):
    assert "Options" in say(command, "--help")
