"""A distributed lock of one registered model, for changes of its aliases."""

import fcntl
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.registry.database import if_exists

# More than ten times as long as any change takes.
LOCK_SECONDS = 30.0
RELEASED = "released"


class LeaseLostError(RuntimeError):
    """The lock was held for so long that another process may have it now."""


@dataclass(frozen=True)
class Lease:
    """One generation of a model's lock, held for half of ``LOCK_SECONDS`` from ``started``.

    The other half is for a write that is in flight when the lease ends.
    """

    client: Any
    model: str
    generation: int
    started: float

    @property
    def name(self) -> str:
        """Name of the registered model that is this generation."""
        return f"lock.{self.model}.{self.generation}"

    def check(self) -> None:
        """Check before a write that this process still holds the lock.

        Raises:
            LeaseLostError: another process may hold it.
        """
        newest = max(number for number, _ in [*_generations(self.client, self.model), (0, True)])
        if newest != self.generation or time.monotonic() - self.started > LOCK_SECONDS / 2:
            raise LeaseLostError(f"the lock of {self.model} was held for too long, and may be another's: run again")


@contextmanager
def locked(client: Any, model: str, folder: Path) -> Generator[Lease]:
    """Hold the lock of a model; the holder checks the lease before each write.

    Processes of one machine wait for a file lock, which ends with its process. Between machines, the lock is a
    registered model without versions, ``lock.<model>.<generation>``: MLflow lets only one client create a name. The
    highest generation is the valid one, so it is never deleted; its holder only tags it as released. A waiting process
    creates the next generation once this one is tagged, or has been seen untagged for ``LOCK_SECONDS`` by its own
    clock, as after a kill.

    Args:
        client: MLflow's client.
        model: name of the registered model.
        folder: folder of this machine's lock files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{model}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lease = _acquire(client, model)
        try:
            yield lease
        finally:
            if_exists(client.set_registered_model_tag, lease.name, RELEASED, "yes")


def _acquire(client: Any, model: str) -> Lease:
    """Wait until the newest generation is released or expired, and create the next."""
    seen, since = 0, 0.0
    while True:
        newest, released = max([*_generations(client, model), (0, True)])
        now = time.monotonic()
        if newest != seen:
            seen, since = newest, now
        if released or now - since > LOCK_SECONDS:
            lease = Lease(client, model, newest + 1, now)
            if _create(lease):
                return lease
        time.sleep(0.1)


def _create(lease: Lease) -> bool:
    """Create a generation, and return whether it is the lock now; delete earlier generations, which have ended."""
    from mlflow.exceptions import MlflowException

    try:
        lease.client.create_registered_model(lease.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    numbers = [number for number, _ in _generations(lease.client, lease.model)]
    # The name may have been free only because a later generation had deleted it meanwhile.
    if max(numbers) != lease.generation:
        if_exists(lease.client.delete_registered_model, lease.name)
        return False
    for number in numbers:
        if number < lease.generation:
            if_exists(lease.client.delete_registered_model, f"lock.{lease.model}.{number}")
    return True


def _generations(client: Any, model: str) -> Iterator[tuple[int, bool]]:
    """Yield each generation of a model's lock, and whether it is released."""
    prefix = f"lock.{model}."
    for generation in client.search_registered_models(f"name LIKE '{prefix}%'", max_results=1_000):
        number = generation.name.removeprefix(prefix)
        if number.isdecimal():
            yield int(number), RELEASED in generation.tags
