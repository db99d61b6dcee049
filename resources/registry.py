"""The model registry: MLflow, a database and a folder by default."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg

from resources.settings import Settings
from signals.heads import directory_digest
from signals.scoring import Model, load_model
from signals.transform import require_same

CHAMPION = "champion"
# The one registered model that answers no task: the encoder's weights.
ENCODER = "encoder"


class ModelMissingError(LookupError):
    """A task has no champion, or a version does not exist."""


class TamperedModelError(RuntimeError):
    """A model's files are not those that were registered."""


@dataclass(frozen=True)
class Registered:
    """A registered version of a model, as the registry knows it."""

    name: str
    version: int
    digest: str
    transform_id: str
    trained_at: datetime
    champion: bool
    metrics: dict[str, float]
    record: dict[str, str]


class Registry(dg.ConfigurableResource):
    """Versions of each task's model, their files and figures, and which version is champion.

    A task has a champion under each encoder, so that the heads of the next are ready before it serves. Those that are
    looked at are of the encoder that serves, or of the one that ``under`` names.
    """

    tracking_uri: str
    artifacts: str
    cache: str
    encoder: str | None = None

    def under(self, encoder: str) -> "Registry":
        """Return the same registry for the heads of one encoder: its registered digest, or nothing if packaged."""
        return self.model_copy(update={"encoder": encoder})

    def serving_encoder(self) -> str:
        """Return the digest of the encoder that serves; nothing while it is the packaged one."""
        try:
            return self.champion(ENCODER).digest
        except ModelMissingError:
            return ""

    def register(self, task: str, files: Path, metrics: Mapping[str, float], record: Mapping[str, Any]) -> Registered:
        """Log a trained model's files and figures, and register them as the next version.

        Args:
            task: name of the task, which names the model.
            files: folder with ``model.json`` and the weights.
            metrics: held-out figures.
            record: what else is to be known of the training: transform_id, table versions, rows, …
        """
        from mlflow.entities import Metric, RunTag

        digest = directory_digest(files)
        client = self._client()
        experiment = client.get_experiment_by_name(task)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(task, self._folder(task))
        run = client.create_run(experiment_id, run_name=task)
        now = int(datetime.now(UTC).timestamp() * 1000)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(_metric_name(name), value, now, 0) for name, value in metrics.items()],
            tags=[RunTag(name, str(value)) for name, value in record.items()],
        )
        client.log_artifacts(run.info.run_id, str(files), "model")
        client.set_terminated(run.info.run_id)
        if self._registered(task) is None:
            client.create_registered_model(task)
        tags = {
            "digest": digest,
            "metrics": json.dumps(dict(metrics)),
            ENCODER: self._encoder_of(task),
            **{k: str(v) for k, v in record.items()},
        }
        version = client.create_model_version(
            task, source=f"{run.info.artifact_uri}/model", run_id=run.info.run_id, tags=tags
        )
        return self.version(task, int(version.version))

    def promote(self, task: str, version: int, *, by: str, why: str) -> None:
        """Make a version champion, and record who or what did so, when and why.

        Raises:
            ModelMissingError: there is no such version.
        """
        registered, client = self.version(task, version), self._client()
        moment = datetime.now(UTC).isoformat()
        for key, value in (("promoted_by", by), ("promoted_why", why), ("promoted_at", moment)):
            client.set_model_version_tag(task, str(version), key, value)
        client.set_registered_model_alias(task, _alias(registered.record.get(ENCODER, "")), str(version))

    def note(self, task: str, version: int, name: str, value: str) -> None:
        """Keep with a version what became known of it after it was registered."""
        self._client().set_model_version_tag(task, str(version), name, value)

    def champion(self, task: str) -> Registered:
        """Return a task's champion.

        Raises:
            ModelMissingError: it has none.
        """
        for registered in self.versions(task):
            if registered.champion:
                return registered
        raise ModelMissingError(f"task {task} has no champion: materialise models/{task}")

    def versions(self, task: str, *, every_encoder: bool = False) -> list[Registered]:
        """Return the versions of a task's model under the encoder, or under any, newest first."""
        model = self._registered(task)
        if model is None:
            return []
        encoder = self._encoder_of(task)
        champion = int(model.aliases.get(_alias(encoder), -1))
        found = self._client().search_model_versions(f"name = '{task}'")
        found = [version for version in found if every_encoder or version.tags.get(ENCODER, "") == encoder]
        return sorted(
            (self._described(version, champion) for version in found),
            key=lambda v: v.version,
            reverse=True,
        )

    def version(self, task: str, version: int) -> Registered:
        """Return one version.

        Raises:
            ModelMissingError: it does not exist.
        """
        for registered in self.versions(task, every_encoder=True):
            if registered.version == version:
                return registered
        raise ModelMissingError(f"task {task} has no version {version}")

    def load(self, registered: Registered, running: str) -> Model:
        """Return a version ready to score; its files are compared with what was registered each time.

        Raises:
            TransformMismatchError: it was trained under another transformation than ``running``.
            TamperedModelError: the files are not those that were registered.
        """
        require_same(f"{registered.name} version {registered.version}", registered.transform_id, running)
        return load_model(self.fetched(registered, running), registered.name, registered.version, running)

    def fetched(self, registered: Registered, running: str | None = None) -> Path:
        """Return a local folder with a version's files, which are fetched once.

        Raises:
            TransformMismatchError: they say that they are of another transformation than ``running``, if it is given.
            TamperedModelError: they are not those that were registered.
        """
        from mlflow.artifacts import download_artifacts

        folder = Path(self.cache) / registered.name / f"{registered.version}-{registered.digest[:16]}"
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            source = self._client().get_model_version_download_uri(registered.name, str(registered.version))
            with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
                fetched = Path(
                    download_artifacts(artifact_uri=source, dst_path=partial, tracking_uri=self.tracking_uri)
                )
                _require_same_files(fetched, registered, running)
                try:
                    fetched.rename(folder)
                except OSError:  # another process has fetched the same version meanwhile
                    if not folder.exists():
                        raise
        _require_same_files(folder, registered, running)
        return folder

    def _encoder_of(self, task: str) -> str:
        """Return the encoder whose heads are looked at; one that is itself registered is of none."""
        if task == ENCODER:
            return ""
        return self.serving_encoder() if self.encoder is None else self.encoder

    def _described(self, version: Any, champion: int) -> Registered:
        tags = dict(version.tags)
        return Registered(
            name=version.name,
            version=int(version.version),
            digest=tags["digest"],
            transform_id=tags["transform_id"],
            trained_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            champion=int(version.version) == champion,
            metrics=json.loads(tags.get("metrics", "{}")),
            record=tags,
        )

    def _registered(self, task: str) -> Any:
        """Return MLflow's own record of a task's model, or None if it was never trained."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client().get_registered_model(task)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _folder(self, task: str) -> str:
        return f"{self.artifacts}/{task}" if "://" in self.artifacts else Path(self.artifacts, task).resolve().as_uri()

    def _client(self) -> Any:
        return _client(self.tracking_uri)


@lru_cache(maxsize=4)
def _client(tracking_uri: str) -> Any:
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Read when mlflow is imported: it would report its use over the network, and draw its own progress bars.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    if tracking_uri.startswith("sqlite:///"):
        Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri)


def registry(settings: Settings) -> Registry:
    """Return the registry that the settings name."""
    return Registry(
        tracking_uri=settings.mlflow_tracking_uri,
        artifacts=settings.mlflow_artifacts,
        cache=str(settings.model_cache),
    )


def _alias(encoder: str) -> str:
    """Return the alias of a champion under an encoder."""
    return f"{CHAMPION}-{encoder[:16]}" if encoder else CHAMPION


def _metric_name(name: str) -> str:
    """MLflow's metric names know no ``|`` or ``&``."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _require_same_files(folder: Path, registered: Registered, running: str | None) -> None:
    """Refuse files of another transformation first, since that names what to do, then files that were changed."""
    name = f"{registered.name} version {registered.version}"
    described = folder / "model.json"
    if running is not None and described.exists():
        require_same(name, json.loads(described.read_text(encoding="utf-8"))["transform_id"], running)
    found = directory_digest(folder)
    if found != registered.digest:
        raise TamperedModelError(
            f"model {name}: files have digest {found[:16]}…, registered was {registered.digest[:16]}…"
        )
