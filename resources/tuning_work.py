"""What a tuning keeps on disk, so that one that is killed goes on: its number of examples, and its last state."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from signals.models.tuning_state import State

PLAN, STATE = "plan.json", "state.safetensors"
# A state is as large as the tuned weights and two moments of each.
SECONDS = 60.0


class TuningWork:
    """The working folder of one tuning; those of others beside it are left behind, and removed.

    Args:
        folder: of all tunings.
        name: of what decides the result of this one.
        seconds: between two states.
    """

    def __init__(self, folder: Path, name: str, seconds: float = SECONDS) -> None:
        self.folder, self.seconds, self._saved_at = folder / name, seconds, time.monotonic()
        for other in folder.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    def examples(self, decide: Callable[[], int]) -> int:
        """Return the number of examples: decided once, then fixed."""
        plan = self.folder / PLAN
        if not plan.exists():
            self._write(PLAN, json.dumps({"examples": decide()}).encode())
        return int(json.loads(plan.read_text(encoding="utf-8"))["examples"])

    def load(self) -> State | None:
        """Return the last state; None if there is none that can be read."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(self.folder / STATE)
        except FileNotFoundError:
            return None
        except SafetensorError as error:
            logging.getLogger(__name__).warning("%s: %s; tuning begins again", self.folder / STATE, error)
            return None

    def checkpoint(self, state: Callable[[], State]) -> None:
        """Save the state if the last one is old enough; a kill leaves either of them."""
        from safetensors.numpy import save

        if time.monotonic() - self._saved_at >= self.seconds:
            self._write(STATE, save(state()))
            self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Remove the folder, once its result is kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{name}.{os.getpid()}"
        with draft.open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        draft.replace(self.folder / name)
