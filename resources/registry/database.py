"""MLflow as the registry uses it: quiet, telling nobody, on a database that is there whole or not at all."""

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
    """Return MLflow's client of a database or a server; a database that is a file is made, if there is none.

    Raises:
        RegistryAddressError: MLflow cannot work with the address, which may hold a password and is not repeated.
    """
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Read when mlflow is imported: it would report its use over the network, and draw its own progress bars.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    if tracking_uri.startswith("sqlite:///"):
        _make(Path(tracking_uri.removeprefix("sqlite:///")))
    try:
        return MlflowClient(without_access(tracking_uri))
    except Exception as error:  # noqa: BLE001 - MLflow and SQLAlchemy say in many ways that an address is none
        raise RegistryAddressError(f"MLFLOW_TRACKING_URI cannot be used: {redacted(str(error))}") from None


def without_access(tracking_uri: str) -> str:
    """Return the address of a server without user and password, which MLflow shows: it gets them by its environment."""
    if not tracking_uri.startswith(("http://", "https://")):
        return tracking_uri
    scheme, _, rest = tracking_uri.partition("://")
    userinfo, _, host = rest.rpartition("@")
    if userinfo:
        user, _, password = userinfo.partition(":")
        os.environ |= {"MLFLOW_TRACKING_USERNAME": unquote(user), "MLFLOW_TRACKING_PASSWORD": unquote(password)}
    return f"{scheme}://{host}"


def if_exists(call: Callable[..., Any], *names: str) -> Any:
    """Return what a call of MLflow's client returns; None if what it names does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return call(*names)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _make(database: Path) -> None:
    """Make MLflow's database, if there is none, aside: one that a kill leaves half made is never mended."""
    from mlflow import MlflowClient

    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        aside = Path(folder, database.name)
        MlflowClient(f"sqlite:///{aside}").search_registered_models(max_results=1)
        with suppress(FileExistsError):  # a rival was faster
            os.link(aside, database)
