"""The model registry on MLflow: a database and a folder by default.

The model of a task is registered once for each environment, as ``<environment>.<task>``. Aliases name the versions that
answer; only ``promotion`` changes them.
"""

import hmac
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from governance.gates.promotion import Verdict
from governance.promotion_log import ENCODER
from governance.transform_comparisons import Comparisons
from resources.registry.database import client, if_exists, without_credentials
from resources.registry.errors import ModelMissingError, TamperedModelError
from resources.registry.versions import ERASED, SIGNATURE, VERDICT, ModelVersion, traffic_of, training_tags
from resources.settings import Settings, model_folder
from signals.classify import Model, load_model
from signals.models.heads import directory_digest
from signals.models.sentence_encoder import files_digest
from signals.models.transform import TransformMismatchError, require_same
from signals.tasks import TASKS
from signals.traffic import Traffic


@dataclass(frozen=True)
class Registry:
    """The versions of each task's model in one environment: files, figures and traffic.

    A task has a champion under each encoder, so that the heads of the next encoder are ready before it serves. Methods
    return the heads of the serving encoder, or of the one that ``encoder`` names. ``configured_encoder`` is the digest
    of an encoder that the settings name: it serves, whichever was promoted. With a ``key``, versions are signed, and
    none without a signature of that key is fetched.
    """

    tracking_uri: str = field(repr=False)
    artifacts: str
    cache: str
    environment: str = "dev"
    encoder: str | None = None
    configured_encoder: str = ""
    key: bytes | None = field(default=None, repr=False)

    @property
    def client(self) -> Any:
        """MLflow's client."""
        return client(self.tracking_uri)

    def name(self, task: str) -> str:
        """Return the name of a task's registered model."""
        return f"{self.environment}.{task}"

    def for_environment(self, environment: str) -> "Registry":
        """Return the same registry for another environment."""
        return replace(self, environment=environment, encoder=None)

    def for_encoder(self, encoder: str) -> "Registry":
        """Return the same registry for the heads of one encoder, by its digest; empty for the packaged one."""
        return replace(self, encoder=encoder)

    def serving_encoder(self) -> str:
        """Return the digest of the encoder that serves; empty for the packaged one."""
        if self.configured_encoder:
            return self.configured_encoder
        try:
            return self.champion(ENCODER).digest
        except ModelMissingError:
            return ""

    def register(self, task: str, files: Path, metrics: Mapping[str, float], record: Mapping[str, Any]) -> ModelVersion:
        """Log a trained model's files and figures, and register them as the next version.

        Args:
            task: name of the task.
            files: folder with ``model.json`` and the weights.
            metrics: held-out figures.
            record: other facts of the training: transform_id, table versions, rows, …
        """
        from mlflow.entities import Metric, RunTag

        name, client = self.name(task), self.client
        digest = directory_digest(files)
        tags = training_tags(digest, self._encoder_of(task), metrics, record) | self._signed(name, digest)
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, self._folder(name))
        run = client.create_run(experiment_id, run_name=name)
        now = int(datetime.now(UTC).timestamp() * 1000)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(_metric_name(metric), value, now, 0) for metric, value in metrics.items()],
            tags=[RunTag(tag, str(value)) for tag, value in record.items()],
        )
        client.log_artifacts(run.info.run_id, str(files), "model")
        client.set_terminated(run.info.run_id)
        if self._registered(task) is None:
            client.create_registered_model(name)
        source = f"{run.info.artifact_uri}/model"
        registered = client.create_model_version(name, source=source, run_id=run.info.run_id, tags=tags)
        return self.version(task, int(registered.version))

    def copy_to(self, target: "Registry", version: ModelVersion) -> ModelVersion:
        """Copy a version's files and figures to another environment once; return the version there.

        MLflow's own copy would only point to the same files. Here the files are copied, and their digest compared.

        Raises:
            NotPassedError: it has not passed the gate; nothing was copied.
            TamperedModelError: the files are not those that were registered.
        """
        verdict, origin = version.require_passed(), f"{version.name}/{version.version}"
        candidates = target.versions(version.task, every_encoder=True)
        copies = [candidate for candidate in candidates if candidate.record.get("copied_from") == origin]
        if not copies:
            record = version.record | {"copied_from": origin}
            copies = [target.register(version.task, self.fetch(version), version.metrics, record)]
        (copy,) = copies
        if copy.verdict is None:
            target.judge(copy, verdict)
        if copy.digest != version.digest:
            raise TamperedModelError(f"{copy} is no copy of {origin}: digests differ")
        target.fetch(copy)
        return target.version(version.task, copy.version)

    def sign(self, version: ModelVersion) -> None:
        """Sign a version that was registered without the key, if its files are those that were registered.

        Raises:
            TamperedModelError: they are not.
        """
        replace(self, key=None).fetch(version)
        for tag, value in self._signed(version.name, version.digest).items():
            self.client.set_model_version_tag(version.name, str(version.version), tag, value)

    def is_signed(self, version: ModelVersion) -> bool:
        """Say whether a version has a signature of the key."""
        expected = self._signed(version.name, version.digest).get(SIGNATURE, "")
        return bool(expected) and hmac.compare_digest(expected, version.record.get(SIGNATURE, ""))

    def judge(self, version: ModelVersion, verdict: Verdict) -> None:
        """Store the gate's verdict on a version."""
        self.client.set_model_version_tag(version.name, str(version.version), VERDICT, verdict.dump())

    def mark_erased(self, version: ModelVersion, now: datetime) -> None:
        """Note on a version that training rows of it are erased, unless that is noted already."""
        if version.erased_at is None:
            self.client.set_model_version_tag(version.name, str(version.version), ERASED, now.isoformat())

    def traffic(self) -> dict[str, Traffic]:
        """Return the traffic of each task that has a champion, from one query."""
        encoder, prefix = self._encoder_of(""), self.name("")
        models = {model.name.removeprefix(prefix): model for model in self._models()}
        traffic = {task: traffic_of(model, encoder) for task, model in models.items() if task != ENCODER}
        return {task: of_task for task, of_task in traffic.items() if of_task is not None}

    def champion(self, task: str) -> ModelVersion:
        """Return a task's champion.

        Raises:
            ModelMissingError: it has none.
        """
        for version in self.versions(task):
            if version.champion:
                return version
        raise ModelMissingError(f"task {task} has no champion in {self.environment}: materialise models/{task}")

    def versions(self, task: str, *, every_encoder: bool = False) -> list[ModelVersion]:
        """Return the versions of a task's model under the encoder, or under any, newest first."""
        model = self._registered(task)
        if model is None:
            return []
        encoder = self._encoder_of(task)
        versions = self._versions(f"name = '{model.name}'", [model], encoder)
        return [version for version in versions if every_encoder or version.encoder == encoder]

    def versions_by_task(self, *, every_encoder: bool = False) -> dict[str, list[ModelVersion]]:
        """Return the ``versions`` of every task and of the encoder, from one query."""
        encoder = self._encoder_of("")
        by_task: dict[str, list[ModelVersion]] = {name: [] for name in (*TASKS, ENCODER)}
        for version in self._versions(f"name LIKE '{self.name('%')}'", self._models(), encoder):
            if every_encoder or version.encoder == ("" if version.task == ENCODER else encoder):
                by_task.setdefault(version.task, []).append(version)
        return by_task

    def version(self, task: str, version: int) -> ModelVersion:
        """Return one version.

        Raises:
            ModelMissingError: it does not exist.
        """
        name = self.name(task)
        registered = if_exists(self.client.get_model_version, name, str(version))
        if registered is None:
            raise ModelMissingError(f"task {task} has no version {version} in {self.environment}")
        return ModelVersion.read(registered, self.client.get_registered_model(name), self._encoder_of(task))

    def load(self, version: ModelVersion, running: str, comparisons: Comparisons) -> Model:
        """Return a version's model, ready to score under the running transformation.

        Raises:
            TransformMismatchError: it was trained under another, which is not recorded to answer alike.
            TamperedModelError: the files are not those that were registered.
        """
        trained_under = version.transform_id
        if not comparisons.may_score(version.task, trained_under, running):
            raise TransformMismatchError(str(version), trained_under, running)
        folder = self.fetch(version, trained_under)
        model = load_model(folder, version.name, version.version, version.digest, trained_under)
        return replace(model, transform_id=running)

    def fetch(self, version: ModelVersion, running: str | None = None) -> Path:
        """Return the cached local folder with a version's files.

        Raises:
            TransformMismatchError: the files name another transformation than ``running``, if it is given.
            TamperedModelError: the files are not those that were registered.
        """
        from mlflow.artifacts import download_artifacts

        if self.key is not None and not self.is_signed(version):
            raise TamperedModelError(f"model {version} is not signed with this key: `seamless models sign` signs it")
        folder = Path(self.cache) / version.name / f"{version.version}-{version.digest[:16]}"
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            source = self.client.get_model_version_download_uri(version.name, str(version.version))
            server = without_credentials(self.tracking_uri)
            with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
                fetched = Path(download_artifacts(artifact_uri=source, dst_path=partial, tracking_uri=server))
                _require_same_files(fetched, version, running)
                try:
                    fetched.rename(folder)
                except OSError:  # another process has fetched the same version meanwhile
                    if not folder.exists():
                        raise
        _require_same_files(folder, version, running)
        return folder

    def _encoder_of(self, task: str) -> str:
        """Return the digest of the encoder whose heads this registry returns; empty for the encoder's own model."""
        if task == ENCODER:
            return ""
        return self.serving_encoder() if self.encoder is None else self.encoder

    def _signed(self, name: str, digest: str) -> dict[str, str]:
        """Return the tag with the signature of files under a model's name; none without a key."""
        if self.key is None:
            return {}
        return {SIGNATURE: hmac.digest(self.key, f"{name}\x1f{digest}".encode(), "sha256").hex()}

    def _models(self) -> list[Any]:
        """Return MLflow's records of all models of the environment."""
        return list(self.client.search_registered_models(f"name LIKE '{self.name('%')}'", max_results=1_000))

    def _versions(self, where: str, models: Iterable[Any], encoder: str) -> list[ModelVersion]:
        """Return the versions of some models that match a filter, newest first, with their state under an encoder."""
        by_name, versions, token = {model.name: model for model in models}, [], None
        while token != "":
            page = self.client.search_model_versions(where, page_token=token)
            versions += [
                ModelVersion.read(version, by_name[version.name], encoder)
                for version in page
                if version.name in by_name
            ]
            token = page.token or ""
        return sorted(versions, key=lambda version: version.version, reverse=True)

    def _registered(self, task: str) -> Any:
        """Return MLflow's record of a task's model, or None if it was never trained."""
        return if_exists(self.client.get_registered_model, self.name(task))

    def _folder(self, name: str) -> str:
        return f"{self.artifacts}/{name}" if "://" in self.artifacts else Path(self.artifacts, name).resolve().as_uri()


def registry(settings: Settings) -> Registry:
    """Return the registry that the settings name."""
    return Registry(
        tracking_uri=settings.mlflow_tracking_uri.get_secret_value(),
        artifacts=settings.mlflow_artifacts,
        cache=str(settings.model_cache),
        environment=settings.environment,
        configured_encoder=files_digest(model_folder(settings.encoder)) if settings.encoder else "",
        key=settings.model_key.get_secret_value().encode() if settings.model_key else None,
    )


def _metric_name(name: str) -> str:
    """Replace the characters that MLflow refuses in a metric's name."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _require_same_files(folder: Path, version: ModelVersion, running: str | None) -> None:
    """Refuse files of another transformation first, since that error names the remedy, then changed files."""
    description = folder / "model.json"
    if running is not None and description.exists():
        require_same(str(version), json.loads(description.read_text(encoding="utf-8"))["transform_id"], running)
    digest = directory_digest(folder)
    if digest != version.digest:
        raise TamperedModelError(
            f"model {version}: files have digest {digest[:16]}…, registered was {version.digest[:16]}…"
        )
