"""Micro-batches: documents that come at about the same time are decided together."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Gauge, Histogram

WAIT = Gauge("seamless_classify_wait_seconds", "Seconds that a batch waits for documents, as learnt.")
DOCUMENTS = Histogram(
    "seamless_classify_batch_documents", "Documents of a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
# No batch waits longer, or has more documents; and no more than this may wait for one.
MAX_WAIT, MAX_DOCUMENTS, MAX_WAITING = 0.005, 64, 1_024
# Batches at a time: one is encoded, which leaves Python to others, while the other is read, judged and kept.
AT_A_TIME = 2
# What an observation counts for against all before it.
WEIGHT = 0.05


class BusyError(RuntimeError):
    """Too many documents wait to be decided."""


@dataclass
class WaitPolicy:
    """How long a batch waits for more documents, learnt from when they come and what batches cost.

    A document that joins a batch saves what a batch costs however small it is. So the batch waits where the next is
    expected sooner than that, and otherwise not at all.
    """

    gap: float = 1.0
    _means: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("n", "s", "nn", "ns"), 0.0))
    _came: float | None = None
    _seen: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds that the next batch waits."""
        return min(self.gap, MAX_WAIT) if self.gap < min(self.fixed, MAX_WAIT) else 0.0

    @property
    def fixed(self) -> float:
        """Seconds that a batch costs beside its documents, by a line through the latest; until known, the most."""
        n, s, nn, ns = (value / self._seen if self._seen else 0.0 for value in self._means.values())
        spread = nn - n * n
        return MAX_WAIT if spread < 0.1 else max(s - (ns - n * s) / spread * n, 0.0)

    def arrived(self, now: float) -> None:
        """Learn that a document has come."""
        if self._came is not None:
            self.gap += WEIGHT * (now - self._came - self.gap)
        self._came = now

    def decided(self, documents: int, seconds: float) -> None:
        """Learn what a batch has cost."""
        observed = {"n": documents, "s": seconds, "nn": documents**2, "ns": documents * seconds}
        for name, value in observed.items():
            self._means[name] += WEIGHT * (value - self._means[name])
        self._seen += WEIGHT * (1 - self._seen)


@dataclass
class _Job:
    group: Hashable
    document: Any
    came: float
    answer: asyncio.Future[tuple[Any, float]]


class Batcher:
    """Decides documents of one group together, ``AT_A_TIME`` batches at a time.

    Args:
        decide: returns an answer a document, given the group; runs in threads of its own.
    """

    def __init__(self, decide: Callable[[Any, Sequence[Any]], Sequence[Any]]) -> None:
        self.policy = WaitPolicy()
        self._decide, self._threads = decide, ThreadPoolExecutor(AT_A_TIME, "decide")
        self._free, self._decided = asyncio.Semaphore(AT_A_TIME), set[asyncio.Task[None]]()
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue()
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take documents."""
        self._runner = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Take no more documents; batches that are being decided are finished."""
        if self._runner is not None:
            self._runner.cancel()
        await asyncio.gather(*self._decided)
        await asyncio.to_thread(self._threads.shutdown)

    async def ask(self, group: Hashable, document: Any) -> tuple[Any, float]:
        """Return the answer about a document, and the seconds that it waited for its batch.

        Raises:
            BusyError: too many wait already.
        """
        if self._waiting.qsize() >= MAX_WAITING:
            raise BusyError
        now = time.monotonic()
        self.policy.arrived(now)
        job = _Job(group, document, now, asyncio.get_running_loop().create_future())
        self._waiting.put_nowait(job)
        return await job.answer

    async def _run(self) -> None:
        while True:
            await self._free.acquire()
            batch = asyncio.create_task(self._answer_all(await self._collected()))
            self._decided.add(batch)
            batch.add_done_callback(self._decided.discard)

    async def _answer_all(self, jobs: list[_Job]) -> None:
        groups: dict[Hashable, list[_Job]] = {}
        for job in jobs:
            groups.setdefault(job.group, []).append(job)
        try:
            for group, of_group in groups.items():
                await self._answer(group, of_group)
        finally:
            self._free.release()

    async def _collected(self) -> list[_Job]:
        """Return the documents of the next batch, once there is one."""
        jobs = [await self._waiting.get()]
        until = time.monotonic() + self.policy.seconds
        WAIT.set(self.policy.seconds)
        while len(jobs) < MAX_DOCUMENTS:
            left = until - time.monotonic()
            if self._waiting.empty() and left <= 0:
                break
            try:
                jobs.append(await asyncio.wait_for(self._waiting.get(), max(left, 0.001)))
            except TimeoutError:
                break
        return jobs

    async def _answer(self, group: Hashable, jobs: list[_Job]) -> None:
        started, loop = time.monotonic(), asyncio.get_running_loop()
        DOCUMENTS.observe(len(jobs))
        try:
            answers = await loop.run_in_executor(self._threads, self._decide, group, [job.document for job in jobs])
        except Exception as error:  # noqa: BLE001 - it is theirs who asked, and the next batch is another
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        self.policy.decided(len(jobs), time.monotonic() - started)
        for job, answer in zip(jobs, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result((answer, started - job.came))
