"""What serves: the encoder, and the versions under it that answer; resolved and verified once, refreshed on demand."""

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
        registry: of the environment, for the heads of the encoder.
        encoder: the encoder.
    """

    registry: Registry
    encoder: Encoder

    @cached_property
    def models(self) -> Models:
        """Return the models that are asked; a task that has no champion is not asked.

        Raises:
            TransformMismatchError: one was trained under a transformation that is not recorded to answer alike.
            TamperedModelError: its files are not those that were registered.
        """
        traffic = self.registry.traffic()
        champions = self._loaded({task: traffic[task].champion for task in TASKS if task in traffic})
        return Models(traffic, champions, self._loaded({task: traffic[task].challenger for task in champions}))

    def champion(self, task: str) -> Model:
        """Return the champion of one task.

        Raises:
            ModelMissingError: it has none.
            TransformMismatchError, TamperedModelError: as ``models``.
        """
        return self.registry.load(self.registry.champion(task), self.encoder.transform_id, self.encoder.comparisons())

    def refreshed(self) -> "ServingModels":
        """Return what serves now: this, if it still does; nothing is loaded then."""
        now = serving(self.registry, self.encoder.now())
        same = now.encoder is self.encoder and now.registry.traffic() == self.models.traffic
        return self if same else now

    def _loaded(self, versions: Mapping[str, int | None]) -> dict[str, Model]:
        registry, running, comparisons = self.registry, self.encoder.transform_id, self.encoder.comparisons()
        return {
            task: registry.load(registry.version(task, version), running, comparisons)
            for task, version in versions.items()
            if version is not None
        }


def serving(registry: Registry, encoder: Encoder) -> ServingModels:
    """Return what serves in a registry's environment under an encoder."""
    return ServingModels(registry.for_encoder(encoder.digest), encoder)


def serving_models(settings: Settings) -> ServingModels:
    """Return what serves where the settings say."""
    return serving(registry(settings), encoder(settings))
