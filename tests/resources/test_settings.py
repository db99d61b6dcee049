import traceback
from pathlib import Path

import pytest

from resources.settings import PROJECT, Settings, SettingsError, configure, env_example, load_settings, settings

SECRET = "wJalrXUtnFEMI-do-not-show"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def fault(monkeypatch, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    traced = "".join(traceback.format_exception(caught.value))
    assert SECRET not in traced
    return str(caught.value)


def test_every_setting_has_a_default_that_works():
    found = load_settings()
    assert (found.environment, found.lakehouse_uri) == ("dev", ".lake")
    assert found.landing == PROJECT / "samples"


def test_a_setting_comes_from_the_environment_before_the_env_file(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("ENVIRONMENT=staging\nLAKEHOUSE_URI=/from/file\nUNRELATED=1\n")
    monkeypatch.setenv("LAKEHOUSE_URI", "/from/environment")
    found = load_settings()
    assert (found.environment, found.lakehouse_uri) == ("staging", "/from/environment")


def test_what_the_command_line_gives_comes_first(monkeypatch):
    monkeypatch.setenv("LANDING", "/from/environment")
    assert load_settings(landing=Path("/given")).landing == Path("/given")


def test_settings_are_read_once_and_anew_when_they_are_configured(monkeypatch):
    configure()
    monkeypatch.setenv("ENVIRONMENT", "prod")
    monkeypatch.setenv("LAKEHOUSE_URI", "/prod/lake")
    assert settings().environment == "dev"
    assert configure().environment == "prod"
    assert settings().environment == "prod"
    monkeypatch.delenv("ENVIRONMENT")
    configure()


@pytest.mark.parametrize("value", ["sandbox", "staging", "prod"])
def test_only_dev_has_its_tables_at_the_default_place(monkeypatch, value):
    said = fault(monkeypatch, ENVIRONMENT=value)
    assert said == f"bad settings: LAKEHOUSE_URI: .lake holds the tables of dev; name a place for those of {value}"
    assert load_settings(environment=value, lakehouse_uri="s3://lake/other").lakehouse_uri == "s3://lake/other"


@pytest.mark.parametrize("value", ["production", "PROD", "", "dev,prod"])
def test_an_unknown_environment_is_refused_with_the_four_there_are(monkeypatch, value):
    said = fault(monkeypatch, ENVIRONMENT=value)
    assert "ENVIRONMENT" in said
    assert all(name in said for name in ("sandbox", "dev", "staging", "prod"))
    assert "\n" not in said


IMPOSSIBLE = """
ftp://host/x gs://b s3a://b S3://b s3:/b s3:// s3:///prefix file:// file:/// file://host/x https://bucket.example
"""


@pytest.mark.parametrize("value", ["", "   ", "s3://a bucket", *IMPOSSIBLE.split()])
def test_a_lakehouse_that_cannot_be_is_refused_in_one_line_that_names_the_setting(monkeypatch, value):
    said = fault(monkeypatch, LAKEHOUSE_URI=value)
    assert said == "bad settings: LAKEHOUSE_URI: a folder, file:///folder or s3://bucket/prefix is expected"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (".lake", ".lake"),
        ("/srv/lake/", "/srv/lake"),
        ("a folder/with spaces", "a folder/with spaces"),
        ("file:///srv/lake", "/srv/lake"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/prefix/", "s3://bucket/a/prefix"),
    ],
)
def test_a_lakehouse_is_a_folder_or_a_bucket(monkeypatch, value, found):
    monkeypatch.setenv("LAKEHOUSE_URI", value)
    assert load_settings().lakehouse_uri == found


@pytest.mark.parametrize("value", ["", "   ", "s3://a bucket", *IMPOSSIBLE.split()])
def test_a_landing_place_that_cannot_be_is_refused_in_one_line_that_names_the_setting(monkeypatch, value):
    said = fault(monkeypatch, LANDING=value)
    assert said == "bad settings: LANDING: a folder, file:///folder or s3://bucket/prefix is expected"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("landing", Path("landing")),
        ("/", Path("/")),
        ("a folder/with spaces/", Path("a folder/with spaces")),
        ("file:///srv/landing", Path("/srv/landing")),
        (" s3://bucket ", "s3://bucket"),
        ("s3://bucket/a/prefix/", "s3://bucket/a/prefix"),
    ],
)
def test_what_lands_lies_in_a_folder_or_a_bucket(monkeypatch, value, found):
    monkeypatch.setenv("LANDING", value)
    assert load_settings().landing == found
    assert load_settings(**load_settings().model_dump()).landing == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENCODER_THREADS", "0"),
        ("ENCODER_THREADS", "many"),
        ("MAX_RECORD_BYTES", "10"),
        ("FIRST_DAY", "yesterday"),
        ("FIRST_DAY", "2020-02-30"),
        ("MLFLOW_TRACKING_URI", ""),
        ("PULL_URL", "api.example"),
        ("PULL_URL", "ftp://api.example/"),
        ("PULL_URL", f"https://me:{SECRET}@api.example/"),
        ("PULL_REQUESTS_PER_SECOND", "0"),
    ],
)
def test_any_bad_value_is_refused_in_one_line_that_names_the_setting(monkeypatch, name, value):
    said = fault(monkeypatch, **{name: value})
    assert said.startswith(f"bad settings: {name}: ")
    assert "\n" not in said


def test_all_bad_settings_are_named_at_once_and_their_values_are_not_repeated(monkeypatch):
    said = fault(
        monkeypatch, ENVIRONMENT=SECRET, LAKEHOUSE_URI=f"ftp://me:{SECRET}@host/x", AWS_SECRET_ACCESS_KEY=SECRET
    )
    assert "ENVIRONMENT" in said
    assert "LAKEHOUSE_URI" in said
    assert SECRET not in said


def test_a_secret_is_never_shown_but_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("POSTGRES_DSN", f"postgresql://me:{SECRET}@host/app")
    monkeypatch.setenv("PULL_TOKEN", SECRET)
    found = load_settings()
    shown = (repr(found), str(found), f"{found}", found.model_dump_json(), repr(found.model_dump()), repr(vars(found)))
    assert all(SECRET not in text for text in shown)
    assert found.aws_secret_access_key.get_secret_value() == SECRET


def test_the_example_in_the_repository_is_the_one_that_the_settings_write():
    assert (PROJECT / ".env.example").read_text(encoding="utf-8") == env_example()


def test_the_example_names_and_explains_every_setting_and_sets_none(tmp_path):
    example = env_example()
    for name, field in Settings.model_fields.items():
        assert f"# {name.upper()}=" in example
        assert field.description
        assert f"# {field.description}" in example
    assert all(line.startswith("#") or not line for line in example.splitlines())
    (tmp_path / ".env").write_text(example)
    assert load_settings() == Settings()


def test_the_example_once_uncommented_gives_the_defaults(tmp_path):
    lines = [line.removeprefix("# ") for line in env_example().splitlines() if "=" in line and line.startswith("# ")]
    given = [line for line in lines if not line.endswith("=")]
    (tmp_path / ".env").write_text("\n".join(given))
    found = load_settings().model_dump(exclude={"landing", "suitability_profiles"})
    (tmp_path / ".env").unlink()
    assert found == load_settings().model_dump(exclude={"landing", "suitability_profiles"})
