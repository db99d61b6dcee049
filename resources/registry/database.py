"""MLflow's client for the registry: without telemetry or log noise, on a database that is created atomically."""

import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from resources.redaction import redacted


class RegistryAddressError(ValueError):
    """MLflow cannot work with the address of the registry."""


@lru_cache(maxsize=4)
def client(tracking_uri: str) -> Any:
    """Return MLflow's client of a database or a server; create a missing SQLite file.

    Raises:
        RegistryAddressError: MLflow cannot work with the address. It may hold a password, so the message omits it.
    """
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Set before mlflow is imported: else it reports its use over the network, and draws its own progress bars.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    if tracking_uri.startswith("sqlite:///"):
        _create_database(Path(tracking_uri.removeprefix("sqlite:///")))
    try:
        return MlflowClient(without_credentials(tracking_uri))
    except Exception as error:  # noqa: BLE001 - MLflow and SQLAlchemy raise many types for a bad address
        raise RegistryAddressError(f"MLFLOW_TRACKING_URI cannot be used: {redacted(str(error))}") from None


def without_credentials(tracking_uri: str) -> str:
    """Return a server's address without user and password, and put these into MLflow's environment variables.

    MLflow shows the address.
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return tracking_uri
    scheme, _, rest = tracking_uri.partition("://")
    userinfo, _, host = rest.rpartition("@")
    if userinfo:
        user, _, password = userinfo.partition(":")
        os.environ |= {"MLFLOW_TRACKING_USERNAME": unquote(user), "MLFLOW_TRACKING_PASSWORD": unquote(password)}
    return f"{scheme}://{host}"


def if_exists(call: Callable[..., Any], *names: str) -> Any:
    """Return the result of a call of MLflow's client; None if the named resource does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return call(*names)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _create_database(database: Path) -> None:
    """Create a missing MLflow database under a temporary name: MLflow never repairs one that a kill left incomplete."""
    from mlflow import MlflowClient

    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        draft = Path(folder, database.name)
        MlflowClient(f"sqlite:///{draft}").search_registered_models(max_results=1)
        with suppress(FileExistsError):  # a rival was faster
            os.link(draft, database)
