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
# A bucket with or without a prefix, an absolute folder as an address, or a path without a scheme.
LOCATION = re.compile(r"s3://[^/\s]+(/\S*)?|file:///.*[^/\s].*|(?![A-Za-z][A-Za-z0-9+.-]+:).*\S.*")

# The user:password@ before an address's host.
USERINFO = re.compile(r"//[^/\s,]*@|(?:^|,)[^/\s,:]*:[^/\s,]*@")
# Secret settings that are addresses, of which only credentials are secret, or paths, of which nothing is.
ADDRESSES = ("mlflow_tracking_uri", "signal_store", "api_keys", "postgres_dsn")

PULL_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[^\s#@]*)?")


class SettingsError(ValueError):
    """A setting has a value that cannot work."""


def _location(value: str) -> str:
    if not LOCATION.fullmatch(value):
        raise ValueError("a folder, file:///folder or s3://bucket/prefix is expected")
    return value.removeprefix("file://").rstrip("/")


def _lakehouse_uri(value: str, info: ValidationInfo) -> str:
    environment = info.data.get("environment", "dev")
    if environment != "dev" and value == DEV_LAKE:
        raise ValueError(f"{DEV_LAKE} holds the tables of dev; name a place for those of {environment}")
    return _location(value)


def _landing(value: Any) -> Any:
    """Return a bucket as text, a folder as a path."""
    if not isinstance(value, str):
        return value
    location = _location(value.strip())
    return location if location.startswith("s3://") else Path(value.strip().removeprefix("file://"))


def _pull_url(value: str) -> str:
    if not PULL_URL.fullmatch(value):
        raise ValueError("http(s)://host/path is expected; credentials belong in PULL_TOKEN")
    return value


class Settings(BaseSettings):
    """The settings of an installation, from the environment or from ``.env`` in the working folder."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", str_strip_whitespace=True)

    environment: Environment = Field(
        "dev", description="Environment whose models this process uses: sandbox, dev, staging or prod."
    )
    lakehouse_uri: Annotated[str, AfterValidator(_lakehouse_uri)] = Field(
        DEV_LAKE,
        validate_default=True,
        description="Location of the Delta tables: a folder, or s3://bucket/prefix. Each environment needs its own.",
    )
    landing: Annotated[Path | str, BeforeValidator(_landing)] = Field(
        PROJECT / "samples",
        description="Location where files land: a folder, or s3://bucket/prefix. A folder may have the corpora layout.",
    )
    mlflow_tracking_uri: SecretStr = Field(
        SecretStr("sqlite:///.mlflow/mlflow.db"),
        description="MLflow tracking and registry: address of a database or a server.",
        min_length=1,
    )
    mlflow_artifacts: str = Field(
        ".mlflow/artifacts",
        description="Location of the files of models that this process registers.",
        min_length=1,
    )
    model_cache: Path = Field(Path(".cache/models"), description="Folder for local copies of the models in use.")
    key_indexes: Path = Field(
        Path(".cache/keys"),
        description="Folder for indexes of tables' keys where the tables are in a bucket; made again where it is lost.",
    )
    encoder: str | None = Field(
        None,
        description="Encoder in place of the packaged one: folder of a sentence-transformers model, or its hub name.",
    )
    encoder_threads: int = Field(2, ge=1, le=256, description="CPU threads of the encoder.")
    tuning_minutes: float | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Minutes that tuning the encoder may take, by the rate at its start; 96,000 examples if empty.",
    )
    first_day: date = Field(date(2025, 1, 1), description="First daily partition; older events are quarantined.")
    currency_rates: Path | None = Field(
        None,
        description="File of exchange rates. A line has date, currency and US dollars for one unit, with tabs between.",
    )
    suitability_profiles: Path = Field(
        PROJECT / "samples" / "profiles",
        description="Folder of advertisers' suitability profiles: ORGANISATION/NAME.yaml.",
    )
    tcf_vendor_id: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="Our id in IAB Europe's Global Vendor List; without one, no TC string names us.",
    )
    max_record_bytes: int = Field(10_000_000, ge=1_000, description="Bytes of a record; a larger one is quarantined.")
    kafka_bootstrap_servers: str | None = Field(
        None,
        description="Kafka-protocol broker whose topics `seamless stream` reads: one or several host:port.",
    )
    signal_store: SecretStr = Field(
        SecretStr(".signals"),
        description="Store of page signals: a folder, redis://[:password@]host:port/0, or dynamodb://table?region=….",
    )
    api_keys: SecretStr = Field(
        SecretStr(".api_keys.json"),
        description="Place of API keys, which `seamless serve keys` writes: a file, or postgresql://….",
        min_length=1,
    )
    seamless_key: SecretStr | None = Field(
        None,
        description="API key that says who asks on the command line; without one, the owner of the machine is engineer."
        " The environment only, never a file.",
    )
    access_log: Annotated[str, AfterValidator(_location)] = Field(
        ".access_log",
        validate_default=True,
        description="Log of who read what: a folder or s3://bucket/prefix, which all that read the tables share.",
    )
    access_anchors: Annotated[str, AfterValidator(_location)] = Field(
        ".access_anchors",
        validate_default=True,
        description="Second store, of the log's heads: a folder or s3://bucket/prefix, away from log and tables.",
    )
    privacy_requests: Path = Field(
        Path(".privacy_requests"),
        description="Folder of requests of persons that the API takes and `seamless privacy` carries out.",
    )
    access_log_key: SecretStr | None = Field(
        None, description="Key that signs the log's lines; the environment only, never a file.", min_length=16
    )
    api_rate: Annotated[str, Field(pattern=r"^[1-9]\d{0,8}/(second|minute|hour)$")] = Field(
        "2000/second", description="Largest rate of requests with one API key to one worker, such as 100/minute."
    )
    api_in_flight: int = Field(256, ge=1, description="Requests that a worker of the API answers at a time.")
    api_body_bytes: int = Field(10_000_000, ge=1_000, description="Bytes of a request to the API.")
    api_seconds: float = Field(30.0, gt=0, description="Seconds after which the API gives a request up.")
    api_models: bool = Field(
        default=True,
        description="Whether the API loads models and classifies; one that only looks up takes less memory.",
    )
    decision_spool: Path = Field(
        Path(".decisions"), description="Folder in which the API keeps its decisions until silver/decisions has them."
    )
    wanted_pages: Path | None = Field(
        None, description="Folder in which the API notes pages that it does not know, for whoever fetches pages."
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector that gets the API's traces: http(s)://host:port."
    )
    stream_events: int = Field(
        2_000, ge=1, le=50_000, description="Largest first micro-batch, in events; later sizes follow the time it took."
    )
    stream_seconds: float = Field(1.0, gt=0, le=60, description="Seconds that a micro-batch waits for events.")
    stream_lag_seconds: float = Field(60.0, gt=0, description="Lag of an event, in seconds, from which a check warns.")
    postgres_dsn: SecretStr | None = Field(
        None,
        description="Database with the tables users and labels: postgresql://…, or another SQLAlchemy address.",
    )
    pull_url: Annotated[str, AfterValidator(_pull_url)] | None = Field(
        None, description="Paged REST API of social messages: https://host/path."
    )
    pull_token: SecretStr | None = Field(None, description="Bearer token of that API; the environment only.")
    pull_requests_per_second: float = Field(2.0, gt=0, le=1_000, description="Largest rate of requests to that API.")
    erasure_key: SecretStr | None = Field(
        None, description="Key that signs the reports of erasures; the environment only, never a file.", min_length=16
    )
    model_key: SecretStr | None = Field(
        None,
        description="Key that signs models; with it, no unsigned one loads. The environment only, never a file.",
        min_length=16,
    )
    aws_endpoint_url: str | None = Field(None, description="Address of an S3 service other than Amazon's.")
    aws_region: str = Field("us-east-1", description="Region of the bucket.")
    aws_access_key_id: SecretStr | None = Field(None, description="S3 key id; the environment only, never a file.")
    aws_secret_access_key: SecretStr | None = Field(None, description="S3 secret; the environment only, never a file.")

    @field_validator("*", mode="before")
    @classmethod
    def _without_credentials(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse credentials in a setting that is shown."""
        secret = SecretStr in (kind := cls.model_fields[str(info.field_name)].annotation, *get_args(kind))
        if not secret and isinstance(value, str | Path) and USERINFO.search(str(value)):
            raise ValueError("an address without user:password@ is expected: credentials have settings of their own")
        return value


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings.

    Raises:
        SettingsError: one line that names each bad setting and what is wrong with it, without secrets.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        )
        raise SettingsError(f"bad settings: {faults}") from None


def model_folder(model: str) -> Path:
    """Return the folder of a sentence-transformers model; one of the hub is fetched once.

    Raises:
        SettingsError: there is no such model, or the hub does not answer.
    """
    if Path(model).is_dir():
        return Path(model).resolve()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model))
    except Exception as error:  # noqa: BLE001 - whatever the hub's client raises, the setting is at fault
        reason = str(error).split("\n", maxsplit=1)[0]
        raise SettingsError(
            f"bad settings: ENCODER: {model} is no folder, and the hub has no such model: {reason}"
        ) from None


_loaded: list[Settings] = []


def loaded_settings() -> Settings | None:
    """Return the settings of this process if they were read already."""
    return _loaded[0] if _loaded else None


def settings() -> Settings:
    """Return the settings of this process, read once."""
    return _loaded[0] if _loaded else configure()


def configure(**overrides: Any) -> Settings:
    """Read the settings again, with overrides from the command line, and use them in this process.

    Raises:
        SettingsError: see ``load_settings``.
    """
    _loaded[:] = [load_settings(**overrides)]
    return _loaded[0]


def env_example() -> str:
    """Return ``.env.example``: every setting with its description and default."""
    lines = ["# Written by `make .env.example`; copy to .env and change what you need.", ""]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, Path) and default.is_absolute():
            default = default.relative_to(PROJECT)
        lines += [f"# {field.description}", f"# {name.upper()}={'' if default is None else default}", ""]
    return "\n".join(lines)
