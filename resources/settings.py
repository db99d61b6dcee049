"""Every setting of the platform, in one validated object. Nothing else reads the environment."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent
Environment = Literal["sandbox", "dev", "staging", "prod"]
DEV_LAKE = ".lake"
# A bucket with or without a prefix, an absolute folder, or whatever does not begin with a scheme.
PLACE = re.compile(r"s3://[^/\s]+(/\S*)?|file:///.*[^/\s].*|(?![A-Za-z][A-Za-z0-9+.-]+:).*\S.*")

# The user:password@ that an address may have before its host.
USERINFO = re.compile(r"//[^/\s,]*@|(?:^|,)[^/\s,:]*:[^/\s,]*@")
# Secrets that are addresses, of which only a part is secret, or places of this machine, of which nothing is.
PLACES = ("mlflow_tracking_uri", "signal_store", "postgres_dsn")

PULL_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[^\s#@]*)?")


class SettingsError(ValueError):
    """A setting has a value that cannot work."""


def _place(value: str) -> str:
    if not PLACE.fullmatch(value):
        raise ValueError("a folder, file:///folder or s3://bucket/prefix is expected")
    return value.removeprefix("file://").rstrip("/")


def _lakehouse_uri(value: str, known: ValidationInfo) -> str:
    environment = known.data.get("environment", "dev")
    if environment != "dev" and value == DEV_LAKE:
        raise ValueError(f"{DEV_LAKE} holds the tables of dev; name a place for those of {environment}")
    return _place(value)


def _landing(value: Any) -> Any:
    """Return a bucket as text, a folder as a path."""
    if not isinstance(value, str):
        return value
    place = _place(value.strip())
    return place if place.startswith("s3://") else Path(value.strip().removeprefix("file://"))


def _pull_url(value: str) -> str:
    if not PULL_URL.fullmatch(value):
        raise ValueError("http(s)://host/path is expected; what grants access belongs in PULL_TOKEN")
    return value


class Settings(BaseSettings):
    """What an installation decides. Each value comes from the environment, or from ``.env`` in the working folder."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", str_strip_whitespace=True)

    environment: Environment = Field(
        "dev", description="Whose models this process uses: those of sandbox, dev, staging or prod."
    )
    lakehouse_uri: Annotated[str, AfterValidator(_lakehouse_uri)] = Field(
        DEV_LAKE,
        validate_default=True,
        description="Where the Delta tables are: a folder, or s3://bucket/prefix; each environment needs its own.",
    )
    landing: Annotated[Path | str, BeforeValidator(_landing)] = Field(
        PROJECT / "samples",
        description="Where files land: a folder, also one in the corpora layout, or s3://bucket/prefix.",
    )
    mlflow_tracking_uri: SecretStr = Field(
        SecretStr("sqlite:///.mlflow/mlflow.db"),
        description="MLflow tracking and registry: a database or a server.",
        min_length=1,
    )
    mlflow_artifacts: str = Field(
        ".mlflow/artifacts",
        description="Where MLflow keeps the files of models that this process registers.",
        min_length=1,
    )
    model_cache: Path = Field(Path(".cache/models"), description="Local copies of the models in use.")
    encoder_threads: int = Field(2, ge=1, le=256, description="Processor threads of one encoding.")
    first_day: date = Field(
        date(2025, 1, 1), description="First day that has a partition; older events are quarantined."
    )
    currency_rates: Path | None = Field(
        None,
        description="Exchange rates: lines of date, currency and US dollars for one unit, with tabs between.",
    )
    max_record_bytes: int = Field(10_000_000, ge=1_000, description="A landed record of more bytes is quarantined.")
    kafka_bootstrap_servers: str | None = Field(
        None, description="Kafka-protocol broker whose topics `seamless stream` reads: host:port, or several."
    )
    signal_store: SecretStr = Field(
        SecretStr(".signals"),
        description="Where page signals are looked up: a folder, or redis://[:password@]host:port/0.",
    )
    stream_events: int = Field(
        2_000, ge=1, le=50_000, description="Events of the first micro-batch at most; the next follow the time it took."
    )
    stream_seconds: float = Field(1.0, gt=0, le=60, description="Seconds that a micro-batch waits for events.")
    stream_lag_seconds: float = Field(60.0, gt=0, description="Seconds that an event may wait before a check warns.")
    postgres_dsn: SecretStr | None = Field(
        None,
        description="Database whose tables users and labels are read: postgresql://…, or another SQLAlchemy address.",
    )
    pull_url: Annotated[str, AfterValidator(_pull_url)] | None = Field(
        None, description="Paged REST API that social messages are pulled from: https://host/path."
    )
    pull_token: SecretStr | None = Field(None, description="Bearer token of that API; the environment only.")
    pull_requests_per_second: float = Field(2.0, gt=0, le=1_000, description="Requests to that API at most.")
    aws_endpoint_url: str | None = Field(None, description="Address of an S3 service other than Amazon's.")
    aws_region: str = Field("us-east-1", description="Region of the bucket.")
    aws_access_key_id: SecretStr | None = Field(None, description="S3 key id; the environment only, never a file.")
    aws_secret_access_key: SecretStr | None = Field(None, description="S3 secret; the environment only, never a file.")

    @field_validator("*", mode="before")
    @classmethod
    def _without_access(cls, value: Any, known: ValidationInfo) -> Any:
        """Refuse what grants access in a setting that is shown."""
        secret = SecretStr in (kind := cls.model_fields[str(known.field_name)].annotation, *get_args(kind))
        if not secret and isinstance(value, str | Path) and USERINFO.search(str(value)):
            raise ValueError(
                "an address without user:password@ is expected: what grants access has settings of its own"
            )
        return value


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings.

    Raises:
        SettingsError: one line that names each bad setting, its value's fault, and no secret.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        )
        raise SettingsError(f"bad settings: {faults}") from None


_of_this_process: list[Settings] = []


def known_settings() -> Settings | None:
    """Return the settings of this process, if they have been read."""
    return _of_this_process[0] if _of_this_process else None


def settings() -> Settings:
    """Return the settings of this process, read once."""
    return _of_this_process[0] if _of_this_process else configure()


def configure(**overrides: Any) -> Settings:
    """Read the settings anew, some of them given by the command line, and keep them for this process.

    Raises:
        SettingsError: see ``load_settings``.
    """
    _of_this_process[:] = [load_settings(**overrides)]
    return _of_this_process[0]


def env_example() -> str:
    """Return ``.env.example``: every setting with what it is for and its default."""
    lines = ["# Written by `make .env.example`; copy to .env and change what you need.", ""]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, Path) and default.is_absolute():
            default = default.relative_to(PROJECT)
        lines += [f"# {field.description}", f"# {name.upper()}={'' if default is None else default}", ""]
    return "\n".join(lines)
