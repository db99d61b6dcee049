"""The processes that read documents for a server: see ``reader``."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress

import msgspec

from resources.settings import PROJECT
from serving.api import reader
from serving.api.reader import Asked, Read

# Seconds after which a process that should have ended a child by itself is ended.
GIVEN_UP = reader.SECONDS + 2

# A text of fewer characters is read here: 3 ms at most, where a child takes 7 ms for any.
SHORT = 10_000


class Readers:
    """A few processes, each of which reads a document at a time; one that ends is replaced.

    Args:
        count: number of processes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free: asyncio.Queue[Process | None] = asyncio.Queue()

    async def start(self) -> None:
        """Start the processes, and wait until each has loaded what it reads with."""
        for process in await asyncio.gather(*(self._started() for _ in range(self._count))):
            self._free.put_nowait(process)

    async def close(self) -> None:
        """End the processes that are free."""
        while not self._free.empty():
            await _end(self._free.get_nowait())

    async def read(self, asked: Asked) -> Read:
        """Return a document as models are given it, or the rule that it breaks."""
        if asked.text is not None and len(asked.text) + len(asked.title or "") < SHORT:
            return reader.read(asked)
        process, whole = await self._free.get(), False
        try:
            if process is None or process.returncode is not None:
                process = await self._started()
            async with asyncio.timeout(GIVEN_UP):
                answer = await _exchange(process, msgspec.msgpack.encode(asked))
            whole = True
            return msgspec.msgpack.decode(answer, type=Read)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return Read(failure=reader.TOO_COSTLY)
        finally:
            if not whole:  # what it would say next is the answer to this
                await asyncio.shield(_end(process))
            self._free.put_nowait(process if whole else None)

    async def _started(self) -> Process:
        command = (sys.executable, "-m", reader.__name__)
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=PROJECT)
        await _frame(process)
        return process


async def _exchange(process: Process, content: bytes) -> bytes:
    assert process.stdin is not None  # noqa: S101 - it was started with pipes
    process.stdin.write(reader.frame(content))
    await process.stdin.drain()
    return await _frame(process)


async def _frame(process: Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - it was started with pipes
    length = int.from_bytes(await process.stdout.readexactly(4), "big")
    return await process.stdout.readexactly(length)


async def _end(process: Process | None) -> None:
    if process is not None and process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
