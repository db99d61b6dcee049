"""The process that answers with a module of a worker: ``python -m resources.workers.process MODULE SECONDS``.

It reads frames from standard input and answers each on standard output: a length of four bytes, and the content. The
kernel ends it where one content takes too much.
"""

import importlib
import resource
import signal
import sys
from pathlib import Path
from typing import IO

# What one content may take beside what the process has already: bytes of memory, and seconds of processor time.
MEMORY, SECONDS = 1 << 30, 5.0


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Return the next frame, None at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    length = int.from_bytes(head, "big")
    content = stream.read(length)
    return content if len(content) == length else None


def write_frame(stream: IO[bytes], content: bytes) -> None:
    """Write content with its length before it."""
    stream.write(len(content).to_bytes(4, "big"))
    stream.write(content)
    stream.flush()


def main() -> None:
    """Answer until there is no more; an empty frame says beforehand that all is loaded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent decides when it ends
    worker, seconds = importlib.import_module(sys.argv[1]), float(sys.argv[2])
    worker.answer(worker.WARM_UP)
    limit_memory()
    write_frame(sys.stdout.buffer, b"")
    while (content := read_frame(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer = worker.answer(content)
        signal.setitimer(signal.ITIMER_PROF, 0)
        write_frame(sys.stdout.buffer, answer)


def limit_memory() -> None:
    """Let this process allocate no more than ``MEMORY`` beside what it has."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    taken = Path("/proc/self/statm")
    if taken.exists():
        limit = int(taken.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
