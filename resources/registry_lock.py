"""One process at a time moves what answers a task."""

import fcntl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# No move takes a tenth of this.
LOCK_SECONDS = 30.0


@contextmanager
def locked(client: Any, model: str, folder: Path) -> Generator[None]:
    """Let one process at a time go on with a model.

    Those of this machine wait for a file's lock, which ends with its process. Between machines, the lock is a
    registered model without versions: a name that MLflow lets one client take. One that a killed process has left, or
    one that is stopped holds, is taken over after ``LOCK_SECONDS``, by clocks that must not differ by as much.

    Args:
        client: MLflow's.
        model: name of the registered model.
        folder: where this machine's locks are.
    """
    name = f"lock.{model}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{model}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        while not _taken(client, name):
            time.sleep(0.1)
        try:
            yield
        finally:
            client.delete_registered_model(name)


def _taken(client: Any, name: str) -> bool:
    """Make a registered model of a name that is free, and say whether that was so; one that is too old is deleted."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    else:
        return True
    for found in client.search_registered_models(f"name = '{name}'"):
        if time.time() - found.creation_timestamp / 1_000 > LOCK_SECONDS:
            client.delete_registered_model(name)
    return False
