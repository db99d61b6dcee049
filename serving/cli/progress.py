"""How far a command is: a bar in a terminal, and a line a minute elsewhere."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from resources.progress import under_way

Stage = Callable[[str, int, int], None]
REDRAW_SECONDS, LINE_SECONDS = 0.5, 60.0


@contextmanager
def shown(console: Console) -> Generator[Stage]:
    """Show how far a command is; yield what is called with its stage, and how many of how many tables are done."""
    stage = ["starting", 0, 0]

    def enter(name: str, done: int, total: int) -> None:
        stage[:] = name, done, total

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar, began = progress.add_task("starting", total=None), time.monotonic()

        def show() -> None:
            name, done, total = stage
            if not console.is_terminal:
                console.print(line(str(name), int(done), int(total), time.monotonic() - began), soft_wrap=True)
                return
            work = under_way()
            if work is not None:
                name, done, total = f"{name}: {work.name}", work.done, work.total
            progress.update(bar, description=str(name), completed=int(done), total=int(total) or None)

        with every(REDRAW_SECONDS if console.is_terminal else LINE_SECONDS, show):
            yield enter


def line(stage: str, done: int, total: int, seconds: float) -> str:
    """Return how far a command is: the time, its stage, and the work that goes on in it."""
    parts = [f"{stage}, {done:,} of {total:,}" if total else stage]
    work = under_way()
    if work is not None:
        left = work.seconds_left
        of = f" {work.done:,} of {work.total:,}" if work.total else ""
        parts.append(f"{work.name}{of}" + (f", {_minutes(left)} left" if left is not None else ""))
    return f"{datetime.now(UTC):%H:%M} UTC, after {_minutes(seconds)}: {'; '.join(parts)}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"


@contextmanager
def every(seconds: float, act: Callable[[], None]) -> Generator[None]:
    """Act in another thread, at intervals."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(seconds):
            act()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
