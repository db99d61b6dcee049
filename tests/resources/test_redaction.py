import traceback

import dagster as dg
import pytest

from resources.redaction import redacted
from resources.registry.database import RegistryAddressError
from resources.registry.models import registry
from resources.settings import Settings, SettingsError, configure
from tests.support.cli import seamless

PLAIN = "wJalrXUtnFEMI-do-not-show"
ODD = "wJalrXUtnFEMI/do@not:show"
ADDRESSES = [f"{scheme}://me:{PLAIN}@host.example/x" for scheme in ("http", "s3", "redis", "postgresql", "file", "odd")]
ADDRESSES += [f"https://{PLAIN}@host.example", f"me:{PLAIN}@host.example:9092", f"a:1,me:{PLAIN}@host.example:9092"]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    yield
    monkeypatch.undo()
    configure()


def shown(name, value):
    """Return all that is shown of a setting: of what was read, or of the refusal."""
    try:
        found = configure(**{name: value})
    except SettingsError as error:
        return "".join(traceback.format_exception(error))
    forms = (repr(found), str(found), found.model_dump_json(), repr(found.model_dump()), repr(vars(found)))
    return "\n".join([*forms, redacted(f"cannot reach {value}") if "://" in value else ""])


@pytest.mark.parametrize("value", ADDRESSES)
@pytest.mark.parametrize("name", Settings.model_fields)
def test_no_setting_shows_what_an_address_in_it_grants(name, value):
    assert PLAIN not in shown(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pull_token", ODD),
        ("aws_access_key_id", ODD),
        ("aws_secret_access_key", ODD),
        ("mlflow_tracking_uri", f"postgresql://me:{ODD}@host/db"),
        ("postgres_dsn", f"postgresql://me:{ODD}@host/db"),
        ("signal_store", f"redis://:{ODD}@host:1/0"),
        ("mlflow_tracking_uri", "mysql://me:wJalrXUtnFEMI%2Fdo%40not%3Ashow@host/db"),
    ],
)
def test_a_secret_is_taken_out_wherever_it_stands(name, value):
    configure(**{name: value})
    text = redacted(f"{value} is refused: who is {ODD}?")
    assert "wJalrXUtnFEMI" not in text
    assert "is refused: who is ***?" in text


def test_what_is_no_secret_stays():
    configure(signal_store="/srv/signals", mlflow_tracking_uri="sqlite:////srv/mlflow.db")
    for text in (
        "there is no folder /srv/signals, nor sqlite:////srv/mlflow.db",
        "https://medium.example/@somebody/story?page=2&author=a@b.example",
        "redis://localhost:6379/0 does not answer",
    ):
        assert redacted(text) == text
    said = "ftp://a:b@host/x and https://host/?a=1&access_token=abc"
    assert redacted(said) == "ftp://***@host/x and https://host/?a=1&access_token=***"


def test_the_registry_shows_no_password_and_neither_does_dagster():
    found = registry(configure(mlflow_tracking_uri=f"postgresql://me:{PLAIN}@127.0.0.1:1/db"))
    assert PLAIN not in repr(found.for_environment("prod"))
    shown = dg.Definitions(resources={"registry": found}).get_repository_def().get_top_level_resources()
    assert PLAIN not in repr(shown)


@pytest.mark.parametrize("scheme", ["odd", "http", "sqlite"])
def test_no_error_of_the_registry_repeats_its_password(scheme, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    found = registry(configure(mlflow_tracking_uri=f"{scheme}://me:{PLAIN}@127.0.0.1:1/db"))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever MLflow raises
        found.versions("threat")
    assert PLAIN not in "".join(traceback.format_exception(caught.value))
    assert isinstance(caught.value, RegistryAddressError) == (scheme != "http")


@pytest.mark.parametrize("scheme", ["odd", "http", "sqlite"])
def test_the_command_line_repeats_no_password_and_keeps_none(scheme, tmp_path):
    own = {"MLFLOW_TRACKING_URI": f"{scheme}://me:{PLAIN}@127.0.0.1:1/db", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    ran = seamless(tmp_path, "models", "list", **own, MLFLOW_TRACKING_USERNAME="", MLFLOW_TRACKING_PASSWORD="")
    assert ran.returncode == 1
    assert ran.stderr.startswith("seamless: ")
    assert ran.stderr.count("\n") == 1
    kept = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.txt"))
    assert PLAIN not in ran.stdout + ran.stderr + kept
