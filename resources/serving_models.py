"""The encoder and the model versions that serve: resolved and verified once, refreshed on demand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from resources.encoder import Encoder, encoder
from resources.registry.models import Registry, registry
from resources.settings import Settings
from signals.classify import Model, Models
from signals.tasks import TASKS


@dataclass(frozen=True)
class ServingModels:
    """The models that answer in an environment under one encoder.

    Attributes:
        registry: registry of the environment, restricted to the heads of the encoder.
        encoder: the encoder.
    """

    registry: Registry
    encoder: Encoder

    @cached_property
    def models(self) -> Models:
        """Return the models that score; a task without a champion has none.

        Raises:
            TransformMismatchError: a model was trained under a transformation that is not recorded to answer alike.
            TamperedModelError: a model's files are not those that were registered.
        """
        traffic = self.registry.traffic()
        champions = self._loaded({task: traffic[task].champion for task in TASKS if task in traffic})
        return Models(traffic, champions, self._loaded({task: traffic[task].challenger for task in champions}))

    def champion(self, task: str) -> Model:
        """Return the champion of one task.

        Raises:
            ModelMissingError: the task has none.
            TransformMismatchError, TamperedModelError: see ``models``.
        """
        return self.registry.load(self.registry.champion(task), self.encoder.transform_id, self.encoder.comparisons())

    def refreshed(self) -> "ServingModels":
        """Return the models that serve now: this instance, without loading anything, if nothing has changed."""
        current = serving(self.registry, self.encoder.now())
        same = current.encoder is self.encoder and current.registry.traffic() == self.models.traffic
        return self if same else current

    def _loaded(self, versions: Mapping[str, int | None]) -> dict[str, Model]:
        registry, running, comparisons = self.registry, self.encoder.transform_id, self.encoder.comparisons()
        return {
            task: registry.load(registry.version(task, version), running, comparisons)
            for task, version in versions.items()
            if version is not None
        }


def serving(registry: Registry, encoder: Encoder) -> ServingModels:
    """Return the models that serve in a registry's environment under an encoder."""
    return ServingModels(registry.for_encoder(encoder.digest), encoder)


def serving_models(settings: Settings) -> ServingModels:
    """Return the models that serve in the environment of the settings."""
    return serving(registry(settings), encoder(settings))
