"""`seamless models` for the encoder, as a person uses it."""

import pytest
from typer.testing import CliRunner

from governance.promotion_log import ENCODER
from resources.encoder import Encoder
from resources.registry import promotion
from resources.registry.models import registry as registry_of
from resources.settings import configure, settings
from serving.cli import main
from serving.cli.models import models_app
from serving.cli.run import Report, Step
from serving.cli.summary import show
from tests.encoders import head, other_encoder

pytestmark = pytest.mark.slow


@pytest.fixture
def models(database, tmp_path):
    """Return the registry of sandbox, this process's environment, in which an encoder serves that was tuned."""
    before = settings()
    configure(
        environment="sandbox",
        lakehouse_uri=str(tmp_path / "lake"),
        mlflow_tracking_uri=database.tracking_uri,
        mlflow_artifacts=database.artifacts,
        model_cache=database.cache,
    )
    found = registry_of(settings())
    if not found.versions(ENCODER):
        other_encoder(found)
        for version in (0, 1):
            head(found, Encoder(registry=found, version=version), "irony", version)
    promotion.promote(found, ENCODER, 1, by="gate", why="better")
    yield found
    configure(**before.model_dump())


def say(*arguments):
    result = CliRunner().invoke(models_app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_encoder_is_promoted_rolled_back_and_told(models):
    digest = models.champion(ENCODER).digest
    said = say("promote", "encoder", "--to", "staging", "--why", "tested", "--by", "ada")
    assert f"staging.encoder version 1 is champion in staging: digest {digest[:16]}…" in said
    assert models.for_environment("staging").serving_encoder() == digest
    assert models.for_environment("staging").champion("irony").digest == models.champion("irony").digest
    assert "staging      encoder" in say("list")
    said = say("rollback", "encoder", "--why", "complaints", "--by", "eve")
    assert "sandbox.encoder: the packaged encoder is champion, version 1 was" in said
    assert models.serving_encoder() == ""
    shown = say("show", "encoder")
    assert "what answers now, the packaged encoder" in shown
    assert "rollback to the packaged encoder, instead of version 1, by eve: complaints" in shown
    assert "promotion to version 1, the first, by gate: better" in shown
    say("promote", "encoder", "--to", "sandbox", "--version", "1", "--by", "ada")
    assert models.serving_encoder() == digest
    say("rollback", "encoder", "--to", "packaged")
    assert models.serving_encoder() == ""


def test_a_run_that_ends_under_another_encoder_tells_the_heads_that_serve_then(models, capsys):
    said = {"champion": True, "gate": "better", "seconds": 1.0, "version": 1}
    show(Report([Step("models/irony", said), Step("models/encoder", said)], [], [], {}), 2.0)
    rows = {row.split()[0]: row.split()[1:] for row in capsys.readouterr().out.splitlines() if row.strip()}
    assert rows["irony"][:2] == ["1", "2"]
    assert rows["irony"][2:4] == ["f1_positive", f"{models.champion('irony').metrics['f1_positive']:.3f}"]
    assert rows["encoder"][:3] == ["1", "1", "better"]


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("rollback", "encoder", "--to", "7"), 1, "task encoder has no version 7 in sandbox"),
        (("rollback", "encoder", "--to", "first"), 2, "a version's number is expected, or packaged"),
        (("rollback", "irony", "--to", "packaged"), 1, "task irony has no version 0"),
        (("rollback", "irony", "--to", "1"), 1, "of another encoder than the one that serves in sandbox"),
        (("promote", "irony", "--to", "prod"), 1, "`seamless models promote encoder` takes its heads along"),
        (("promote", "encoder", "--to", "dev"), 1, "cannot serve in dev: no head under it can answer threat; train"),
        (("traffic", "encoder", "--off"), 2, "there is no task 'encoder'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_in_one_line(models, arguments, code, why, monkeypatch, capsys):
    if "dev" in arguments:
        head(models.for_environment("dev"), Encoder(registry=models.for_environment("dev")), "threat")
    monkeypatch.setattr("serving.cli.app.configure", settings)
    monkeypatch.setattr("sys.argv", ["seamless", "models", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (code, 1)
    assert why in said
    assert models.serving_encoder() == models.version(ENCODER, 1).digest
