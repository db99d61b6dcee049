"""The model registry: MLflow, a database and a folder by default.

The model of a task is registered once for each environment, as ``<environment>.<task>``. Which of its versions answers
is said by aliases; each change of them is kept with the version that it made answer.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from governance.gates.promotion import Verdict
from governance.promotion_log import ENCODER, PACKAGED, PromotionEvent, earlier, rolled_back
from resources.registry.database import client, without_access
from resources.registry.lock import Lease, locked
from resources.settings import Settings
from signals.classify import Model, load_model
from signals.models.drift import Reference
from signals.models.heads import directory_digest
from signals.models.transform import require_same
from signals.tasks import TASKS
from signals.traffic import Traffic

CHAMPION, CHALLENGER, SHARE = "champion", "challenger", "challenger_share"
VERDICT, MOVE, REFERENCE = "gate", "move:", "reference"
# A registered model without versions: whether heads may cross between two transformations, whatever the environment.
PARITY = "parity"


class ModelMissingError(LookupError):
    """A task has no champion, or a version does not exist."""


class TamperedModelError(RuntimeError):
    """A model's files are not those that were registered."""


class NotPassedError(RuntimeError):
    """A version has not passed the gate."""


class ChampionMovedError(RuntimeError):
    """The champion is no longer the one that a challenger was compared with."""


@dataclass(frozen=True)
class Registered:
    """A registered version of a model, as the registry knows it.

    Attributes:
        name: of the registered model, ``<environment>.<task>``.
        task: name of the task.
        version: number of the version.
        digest: of its files.
        transform_id: transformation that it was trained under.
        encoder: digest of the registered encoder that it was trained under; nothing if that is packaged.
        trained_at: when it was registered (UTC).
        champion: it is the champion.
        share: of the documents, that it answers as the challenger; 0 in shadow, None if it is no challenger.
        metrics: held-out figures of its training.
        record: what else is known of its training.
        verdict: what the gate said; None if it has not been judged.
        moves: changes that made it answer, or the packaged encoder instead of it, oldest first.
    """

    name: str
    task: str
    version: int
    digest: str
    transform_id: str
    encoder: str
    trained_at: datetime
    champion: bool
    share: float | None
    metrics: dict[str, float]
    record: dict[str, str]
    verdict: Verdict | None
    moves: tuple[PromotionEvent, ...]

    @property
    def promoted(self) -> PromotionEvent | None:
        """The move that made it champion last."""
        mine = (move for move in reversed(self.moves) if move.action != "traffic" and move.version == self.version)
        return next(mine, None)

    @property
    def reference(self) -> Reference | None:
        """What its documents and answers are compared with; None of a version from before that was kept."""
        told = self.record.get(REFERENCE)
        return None if told is None else Reference.load(told)

    @property
    def settled(self) -> bool:
        """Whether it was judged, and promoted if it passed: a training that was killed before leaves it unsettled."""
        return self.verdict is not None and (not self.verdict.passed or self.promoted is not None)


@dataclass(frozen=True)
class Registry:
    """Versions of each task's model in one environment, their files and figures, and which of them answer.

    A task has a champion under each encoder, so that the heads of the next are ready before it serves. Those that are
    looked at are of the encoder that serves, or of the one that ``under`` names.
    """

    tracking_uri: str = field(repr=False)
    artifacts: str
    cache: str
    environment: str = "dev"
    encoder: str | None = None

    def for_environment(self, environment: str) -> "Registry":
        """Return the same registry for another environment."""
        return replace(self, environment=environment, encoder=None)

    def for_encoder(self, encoder: str) -> "Registry":
        """Return the same registry for the heads of one encoder: its registered digest, or nothing if packaged."""
        return replace(self, encoder=encoder)

    def serving_encoder(self) -> str:
        """Return the digest of the encoder that serves; nothing while it is the packaged one."""
        try:
            return self.champion(ENCODER).digest
        except ModelMissingError:
            return ""

    def register(self, task: str, files: Path, metrics: Mapping[str, float], record: Mapping[str, Any]) -> Registered:
        """Log a trained model's files and figures, and register them as the next version.

        Args:
            task: name of the task.
            files: folder with ``model.json`` and the weights.
            metrics: held-out figures.
            record: what else is to be known of the training: transform_id, table versions, rows, …
        """
        from mlflow.entities import Metric, RunTag

        name, digest, client = self._name(task), directory_digest(files), self._client()
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, self._folder(name))
        run = client.create_run(experiment_id, run_name=name)
        now = int(datetime.now(UTC).timestamp() * 1000)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(_metric_name(name), value, now, 0) for name, value in metrics.items()],
            tags=[RunTag(name, str(value)) for name, value in record.items()],
        )
        client.log_artifacts(run.info.run_id, str(files), "model")
        client.set_terminated(run.info.run_id)
        if self._registered(task) is None:
            client.create_registered_model(name)
        tags = {
            "digest": digest,
            "metrics": json.dumps(dict(metrics)),
            ENCODER: self._encoder_of(task),
            **{k: str(v) for k, v in record.items()},
        }
        version = client.create_model_version(
            name, source=f"{run.info.artifact_uri}/model", run_id=run.info.run_id, tags=tags
        )
        return self.version(task, int(version.version))

    def copy_to(self, target: "Registry", registered: Registered) -> Registered:
        """Copy a version's files and figures to another environment, once; return the version there.

        MLflow's own copy would only point to the same files: these are copied, and compared with what was tested.

        Raises:
            NotPassedError: it has not passed the gate; nothing was copied.
            TamperedModelError: the files are not those that were registered.
        """
        _require_passed(registered)
        origin = f"{registered.name}/{registered.version}"
        there = target.versions(registered.task, every_encoder=True)
        known = [one for one in there if one.record.get("copied_from") == origin]
        if not known:
            folder = self.fetched(registered)
            record = registered.record | {"copied_from": origin}
            known = [target.register(registered.task, folder, registered.metrics, record)]
        (made,) = known
        if made.verdict is None and registered.verdict is not None:
            target.judge(made, registered.verdict)
        if made.digest != registered.digest:
            raise TamperedModelError(f"{made.name} version {made.version} is no copy of {origin}: digests differ")
        target.fetched(made)
        return target.version(registered.task, made.version)

    def judge(self, registered: Registered, verdict: Verdict) -> None:
        """Keep what the gate said of a version."""
        self._client().set_model_version_tag(registered.name, str(registered.version), VERDICT, verdict.dump())

    def keep_parity(self, transforms: tuple[str, str], verdict: Verdict) -> None:
        """Keep whether two transformations, which differ by the encoder's precision, give the same answers."""
        client = self._client()
        if not client.search_registered_models(f"name = '{PARITY}'"):
            client.create_registered_model(PARITY)
        client.set_registered_model_tag(PARITY, _pair(*transforms), verdict.dump())

    def parity(self, one: str, other: str) -> Verdict | None:
        """Return what is recorded of two transformations; None if they have not been compared."""
        found = self._client().search_registered_models(f"name = '{PARITY}'")
        told = found[0].tags.get(_pair(one, other)) if found else None
        return None if told is None else Verdict.load(told)

    def may_score(self, registered: Registered, running: str) -> bool:
        """Say whether a version was trained under a transformation, or under one that is recorded to answer alike.

        The record must have measured the version's task, unless it reads pictures, whose answers no encoder changes.
        """
        if registered.transform_id == running:
            return True
        found = self.parity(registered.transform_id, running)
        if found is None or not found.passed:
            return False
        measured = {figure.part for figure in found.figures if figure.kind == "task"}
        return registered.task in measured or TASKS[registered.task].documents == ("image",)

    def promote(self, task: str, version: int, *, by: str, why: str, unless_moved: bool = False) -> None:
        """Make a version champion, and record who or what did so, when and why; a challenger's traffic ends.

        Args:
            task: name of the task.
            version: the version.
            by: who or what promotes it.
            why: the reason.
            unless_moved: only if the champion is the one that the gate compared it with, and nobody rolled it back.

        Raises:
            ModelMissingError: there is no such version.
            NotPassedError: it has not passed the gate, or was rolled back, and ``unless_moved``.
            ChampionMovedError: the champion is another, and ``unless_moved``.
        """
        with self._one_at_a_time(task) as lease:
            challenger = self.version(task, version)
            champion = self._champion(challenger)
            verdict = _require_passed(challenger)
            if unless_moved and version in rolled_back(promotion_log(self.versions(task, every_encoder=True))):
                raise NotPassedError(
                    f"{challenger.name} version {version} was rolled back: only a person may promote it"
                )
            if unless_moved and champion != verdict.against:
                raise ChampionMovedError(
                    f"{challenger.name} version {version} was compared with version {verdict.against}, "
                    f"but version {champion} is champion now"
                )
            if champion != version:
                self._move(
                    challenger, PromotionEvent(datetime.now(UTC), "promotion", version, champion, by, why), lease
                )

    def before(self, task: str) -> int:
        """Return the version that was champion before the present one was promoted; the first encoder's is packaged.

        Raises:
            ModelMissingError: there is no champion, or none before it.
        """
        champion = self.champion(task).version
        found = earlier(promotion_log(self.versions(task)), champion)
        if found is None and task == ENCODER:
            return PACKAGED
        if found is None:
            raise ModelMissingError(
                f"task {task} had no champion before version {champion} in {self.environment} to go back to"
            )
        return found

    def rollback(self, task: str, to: int, *, by: str, why: str) -> int:
        """Make an earlier version champion again, and record it; return the version that was champion.

        Whether an encoder has heads is not looked at here: ``resources.registry.models.encoder_promotion`` does.

        Raises:
            ModelMissingError: there is no champion, or no such version.
            NotPassedError: the version has not passed the gate, or not under the encoder that serves.
        """
        with self._one_at_a_time(task) as lease:
            champion = self.champion(task)
            if (task, to) != (ENCODER, PACKAGED):
                earlier_one = self.version(task, to)
                _require_passed(earlier_one)
                if earlier_one.encoder != champion.encoder:
                    raise NotPassedError(
                        f"{earlier_one.name} version {to} is of another encoder than the one that serves"
                    )
            if to != champion.version:
                self._move(
                    champion, PromotionEvent(datetime.now(UTC), "rollback", to, champion.version, by, why), lease
                )
            return champion.version

    def give_traffic(self, task: str, version: int | None, share: float, *, by: str, why: str) -> None:
        """Have a challenger answer a share of the documents, or be asked in shadow at 0; end it if there is no version.

        Raises:
            ModelMissingError: there is no champion, or no such version.
            NotPassedError: a version that would answer has not passed the gate; in shadow any may be asked.
        """
        with self._one_at_a_time(task) as lease:
            name, client, serving = self._name(task), self._client(), self.champion(task)
            champion, alias = serving.version, _alias(CHALLENGER, serving.encoder)
            now = self.traffic()[task].challenger
            if version == champion:
                raise NotPassedError(f"{name} version {version} is the champion: a challenger is another version")
            if version is not None and share > 0:
                _require_passed(self.version(task, version))
            asked = now if version is None else self.version(task, version).version
            if asked is None:
                return
            given = None if version is None else share
            self._record(task, PromotionEvent(datetime.now(UTC), "traffic", asked, champion, by, why, given), lease)
            # A killed change leaves no challenger: never one with another's share.
            if now is not None:
                client.delete_registered_model_alias(name, alias)
            if version is not None:
                client.set_registered_model_tag(name, _alias(SHARE, serving.encoder), str(share))
                client.set_registered_model_alias(name, alias, str(version))

    def traffic(self) -> dict[str, Traffic]:
        """Return which versions answer each task that has a champion, in one look."""
        encoder, prefix = self._encoder_of(""), self._name("")
        models = {model.name.removeprefix(prefix): model for model in self._models()}
        asked = {task: _traffic(model, encoder) for task, model in models.items() if task != ENCODER}
        return {task: traffic for task, traffic in asked.items() if traffic is not None}

    def champion(self, task: str) -> Registered:
        """Return a task's champion.

        Raises:
            ModelMissingError: it has none.
        """
        for registered in self.versions(task):
            if registered.champion:
                return registered
        raise ModelMissingError(f"task {task} has no champion in {self.environment}: materialise models/{task}")

    def versions(self, task: str, *, every_encoder: bool = False) -> list[Registered]:
        """Return the versions of a task's model under the encoder, or under any, newest first."""
        model = self._registered(task)
        if model is None:
            return []
        encoder = self._encoder_of(task)
        found = self._versions(f"name = '{model.name}'", [model], encoder)
        return [one for one in found if every_encoder or one.encoder == encoder]

    def versions_by_task(self, *, every_encoder: bool = False) -> dict[str, list[Registered]]:
        """Return the ``versions`` of every task, and of the encoder, in one look."""
        encoder = self._encoder_of("")
        found: dict[str, list[Registered]] = {name: [] for name in (*TASKS, ENCODER)}
        for one in self._versions(f"name LIKE '{self._name('%')}'", self._models(), encoder):
            if every_encoder or one.encoder == ("" if one.task == ENCODER else encoder):
                found.setdefault(one.task, []).append(one)
        return found

    def version(self, task: str, version: int) -> Registered:
        """Return one version.

        Raises:
            ModelMissingError: it does not exist.
        """
        from mlflow.exceptions import MlflowException

        name = self._name(task)
        try:
            found = self._client().get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ModelMissingError(f"task {task} has no version {version} in {self.environment}") from None
        return self._described(found, self._client().get_registered_model(name), self._encoder_of(task))

    def load(self, registered: Registered, running: str) -> Model:
        """Return a version ready to score; its files are compared with what was registered each time.

        Raises:
            TransformMismatchError: it was trained under another transformation than ``running``, and no parity with
                that one is recorded.
            TamperedModelError: the files are not those that were registered.
        """
        if not self.may_score(registered, running):
            require_same(f"{registered.name} version {registered.version}", registered.transform_id, running)
        trained_under = registered.transform_id
        folder = self.fetched(registered, trained_under)
        made = load_model(folder, registered.name, registered.version, registered.digest, trained_under)
        return replace(made, transform_id=running)

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
                    download_artifacts(
                        artifact_uri=source, dst_path=partial, tracking_uri=without_access(self.tracking_uri)
                    )
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

    def _one_at_a_time(self, task: str) -> AbstractContextManager[Lease]:
        """Let one process at a time look at a task's champion and move it."""
        return locked(self._client(), self._name(task), Path(self.cache))

    def _move(self, beside: Registered, move: PromotionEvent, lease: Lease) -> None:
        """Make a version champion, under the encoder of one beside it.

        The record comes first, so that nothing ever answers unrecorded. Where no encoder is champion, the packaged one
        serves.
        """
        name, client, encoder = beside.name, self._client(), beside.encoder
        self._record(beside.task, move, lease)
        if _alias(CHALLENGER, encoder) in client.get_registered_model(name).aliases:
            client.delete_registered_model_alias(name, _alias(CHALLENGER, encoder))
        if move.version == PACKAGED:
            client.delete_registered_model_alias(name, _alias(CHAMPION, encoder))
        else:
            client.set_registered_model_alias(name, _alias(CHAMPION, encoder), str(move.version))

    def _record(self, task: str, move: PromotionEvent, lease: Lease) -> None:
        """Keep a move, which is the first of its writes: not if another process may be moving the same by now."""
        lease.check()
        key = f"{MOVE}{move.at:%Y-%m-%dT%H:%M:%S.%f}"
        self._client().set_model_version_tag(self._name(task), str(move.version or move.before), key, move.dump())

    def _champion(self, beside: Registered) -> int | None:
        """Return the champion under the encoder of a version, which the registry has."""
        found = self._client().get_registered_model(beside.name).aliases.get(_alias(CHAMPION, beside.encoder))
        return None if found is None else int(found)

    def _models(self) -> list[Any]:
        """Return MLflow's own records of all models of the environment."""
        return list(self._client().search_registered_models(f"name LIKE '{self._name('%')}'", max_results=1_000))

    def _versions(self, where: str, models: Iterable[Any], encoder: str) -> list[Registered]:
        """Return the versions that MLflow finds of some models, newest first, as they stand under an encoder."""
        known, found, token = {model.name: model for model in models}, [], None
        while token != "":
            page = self._client().search_model_versions(where, page_token=token)
            found += [self._described(one, known[one.name], encoder) for one in page if one.name in known]
            token = page.token or ""
        return sorted(found, key=lambda one: one.version, reverse=True)

    def _described(self, version: Any, model: Any, encoder: str) -> Registered:
        tags, number = dict(version.tags), int(version.version)
        encoder = "" if version.name == self._name(ENCODER) else encoder
        champion, challenger = (int(model.aliases.get(_alias(name, encoder), 0)) for name in (CHAMPION, CHALLENGER))
        verdict, digest, metrics = tags.pop(VERDICT, None), tags.pop("digest"), tags.pop("metrics", "{}")
        moves = tuple(PromotionEvent.load(tags.pop(key)) for key in sorted(tags) if key.startswith(MOVE))
        return Registered(
            name=version.name,
            task=version.name.removeprefix(f"{self.environment}."),
            version=number,
            digest=digest,
            transform_id=tags["transform_id"],
            trained_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            encoder=tags.get(ENCODER, ""),
            champion=number == champion,
            share=float(model.tags[_alias(SHARE, encoder)]) if number == challenger else None,
            metrics=json.loads(metrics),
            record=tags,
            verdict=None if verdict is None else Verdict.load(verdict),
            moves=moves,
        )

    def _registered(self, task: str) -> Any:
        """Return MLflow's own record of a task's model, or None if it was never trained."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client().get_registered_model(self._name(task))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _name(self, task: str) -> str:
        return f"{self.environment}.{task}"

    def _folder(self, name: str) -> str:
        return f"{self.artifacts}/{name}" if "://" in self.artifacts else Path(self.artifacts, name).resolve().as_uri()

    def _client(self) -> Any:
        return client(self.tracking_uri)


def registry(known: Settings) -> Registry:
    """Return the registry that the settings name."""
    return Registry(
        tracking_uri=known.mlflow_tracking_uri.get_secret_value(),
        artifacts=known.mlflow_artifacts,
        cache=str(known.model_cache),
        environment=known.environment,
    )


def promotion_log(versions: Iterable[Registered]) -> list[PromotionEvent]:
    """Return the moves of a task's versions, oldest first."""
    return sorted((move for one in versions for move in one.moves), key=lambda move: move.at)


def _traffic(model: Any, encoder: str) -> Traffic | None:
    """Return what the aliases of MLflow's record of a model say; None if it has no champion under an encoder."""
    champion, challenger = (model.aliases.get(_alias(name, encoder)) for name in (CHAMPION, CHALLENGER))
    if champion is None or challenger is None:
        return None if champion is None else Traffic(int(champion))
    return Traffic(int(champion), int(challenger), float(model.tags[_alias(SHARE, encoder)]))


def _pair(one: str, other: str) -> str:
    return "-".join(sorted((one, other)))


def _alias(name: str, encoder: str) -> str:
    """Return what an alias or a tag is called under an encoder."""
    return f"{name}-{encoder[:16]}" if encoder else name


def _require_passed(registered: Registered) -> Verdict:
    name = f"{registered.name} version {registered.version}"
    if registered.verdict is None:
        raise NotPassedError(f"{name} has not been through the gate: materialise models/{registered.task}")
    if not registered.verdict.passed:
        raise NotPassedError(f"{name} has not passed the gate: {registered.verdict.why}")
    return registered.verdict


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
