"""Where Dagster's run record lies on one machine: ``dagster.yaml`` names the folder."""

import os
from pathlib import Path

from resources.settings import PROJECT


def run_record() -> Path:
    """Return the folder."""
    return Path(os.environ.get("DAGSTER_HOME", PROJECT)) / ".dagster"
