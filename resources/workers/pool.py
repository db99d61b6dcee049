"""A few processes that answer one content at a time each; one that is lost is replaced."""

import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from subprocess import DEVNULL, PIPE
from typing import IO

from resources.settings import PROJECT
from resources.workers import process as process_module
from resources.workers.process import SECONDS, read_frame, write_frame


class WorkerPool:
    """Processes that answer with one module. Each starts when a content finds no other that is free.

    Args:
        worker: name of a module with ``answer(content: bytes) -> bytes`` and ``WARM_UP``, a content.
        count: number of processes.
        seconds: of processor time that one content may take.
    """

    def __init__(self, worker: str, count: int, seconds: float = SECONDS) -> None:
        self._command = [sys.executable, "-m", process_module.__name__, worker, str(seconds)]
        self._count = count
        self._threads = ThreadPoolExecutor(count)
        self._of_thread = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all processes, and wait until each has loaded what it answers with."""
        together = threading.Barrier(self._count)

        def start_one() -> None:
            self._start_process()
            together.wait()

        for one in [self._threads.submit(start_one) for _ in range(self._count)]:
            one.result()

    def submit(self, content: bytes) -> Future[bytes | None]:
        """Have a content answered; None is the answer to one that takes more than its budget."""
        return self._threads.submit(self._answer, content)

    def close(self) -> None:
        """End the processes once they have answered."""
        self._threads.shutdown()
        for process in self._processes:
            process.communicate()

    def _answer(self, content: bytes) -> bytes | None:
        process = getattr(self._of_thread, "process", None) or self._start_process()
        with suppress(OSError):
            write_frame(_pipe(process.stdin), content)
            answer = read_frame(_pipe(process.stdout))
            if answer is not None:
                return answer
        self._of_thread.process = None
        self._processes.remove(process)
        process.kill()
        process.communicate()
        return None

    def _start_process(self) -> subprocess.Popen[bytes]:
        """Start this thread's process.

        Raises:
            RuntimeError: it ends before it has loaded what it answers with.
        """
        process = subprocess.Popen(self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=PROJECT)  # noqa: S603
        if read_frame(_pipe(process.stdout)) is None:
            raise RuntimeError(f"{' '.join(self._command)} does not start: run it to see why")
        self._of_thread.process = process
        self._processes.append(process)
        return process


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - the process was started with pipes
    return stream
