"""One process at a time changes what answers a task."""

import fcntl
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.registry.database import if_exists

# No change takes a tenth of this.
LOCK_SECONDS = 30.0
RELEASED = "released"


class LeaseLostError(RuntimeError):
    """A process has held a lock for so long that another may have taken over."""


@dataclass(frozen=True)
class Lease:
    """What a process holds: one generation of a model's lock, for half of ``LOCK_SECONDS`` from ``began``.

    The other half is for a write that is on its way when the lease ends.
    """

    client: Any
    model: str
    generation: int
    began: float

    @property
    def name(self) -> str:
        """Name of the registered model that is this generation."""
        return f"lock.{self.model}.{self.generation}"

    def check(self) -> None:
        """Make sure, before each write, that the lock is still held.

        Raises:
            LeaseLostError: it may be another's.
        """
        newest = max(number for number, _ in [*_generations(self.client, self.model), (0, True)])
        if newest != self.generation or time.monotonic() - self.began > LOCK_SECONDS / 2:
            raise LeaseLostError(f"the lock of {self.model} was held for too long, and may be another's: run again")


@contextmanager
def locked(client: Any, model: str, folder: Path) -> Generator[Lease]:
    """Let one process at a time go on with a model; whoever holds its lock checks the lease before it writes.

    Those of this machine wait for a file's lock, which ends with its process. Between machines, the lock is a
    registered model without versions, ``lock.<model>.<generation>``: a name that MLflow lets one client take. The
    highest generation is the one that counts, so it is never deleted; whoever releases it only marks it. It may be
    succeeded once it is marked, or once it has been seen unmarked for ``LOCK_SECONDS`` by the waiting process's own
    clock, as after a kill.

    Args:
        client: MLflow's.
        model: name of the registered model.
        folder: where this machine's locks are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{model}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lease = _taken(client, model)
        try:
            yield lease
        finally:
            if_exists(client.set_registered_model_tag, lease.name, RELEASED, "yes")


def _taken(client: Any, model: str) -> Lease:
    """Wait until the newest generation may be succeeded, and make the next."""
    seen, since = 0, 0.0
    while True:
        newest, released = max([*_generations(client, model), (0, True)])
        began = time.monotonic()
        if newest != seen:
            seen, since = newest, began
        if released or began - since > LOCK_SECONDS:
            lease = Lease(client, model, newest + 1, began)
            if _made(lease):
                return lease
        time.sleep(0.1)


def _made(lease: Lease) -> bool:
    """Make a generation, and say whether it is the lock now; generations before it, which have ended, are deleted."""
    from mlflow.exceptions import MlflowException

    try:
        lease.client.create_registered_model(lease.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    numbers = [number for number, _ in _generations(lease.client, lease.model)]
    # A name may be free again because it has been succeeded meanwhile.
    if max(numbers) != lease.generation:
        if_exists(lease.client.delete_registered_model, lease.name)
        return False
    for number in numbers:
        if number < lease.generation:
            if_exists(lease.client.delete_registered_model, f"lock.{lease.model}.{number}")
    return True


def _generations(client: Any, model: str) -> Iterator[tuple[int, bool]]:
    """Return each generation of a model's lock, and whether it is released."""
    prefix = f"lock.{model}."
    for generation in client.search_registered_models(f"name LIKE '{prefix}%'", max_results=1_000):
        number = generation.name.removeprefix(prefix)
        if number.isdecimal():
            yield int(number), RELEASED in generation.tags
