"""Look-up under a steady load: in this process, over HTTP, and beside a bare GET of a Redis-protocol server.

What it is worth to read a key once that is missing, or that several ask for at once, is shown for both kinds of store.

    python -m benchmarks.serving --pages 1000000

Requests are sent at a constant rate, whether or not earlier ones are answered, and each is timed from when it was due:
so a stall counts for all that it delays. Addresses follow Zipf's law, one in ten is not stored, and a publisher writes
100 pages a second meanwhile. Milliseconds at p50, p95, p99 and p99.9.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.place import key_value
from resources.api_keys import FileKeys
from resources.settings import PROJECT, load_settings
from resources.signal_store.entries import store_key
from resources.signal_store.look_up import look_up
from resources.signal_store.shared_reads import SharedReads
from resources.signal_store.stores import SignalStore, signal_store

TENANT, MISSES, EXPONENT = "bench", 0.1, 1.1
RATES = (250, 500, 1_000, 2_000)
CONNECTIONS, ASKERS = 64, 8
LIMIT_MS = 10.0
WORDS = ["harbour", "bridge", "council", "season", "market", "recipe", "engine", "garden"]


def record(number: int, now: datetime) -> dict[str, Any]:
    """Return what is put of a page: about 1 KB."""
    url = f"https://www.site-{number % 5_000}.example/news/{number}/a-story-of-{WORDS[number % 8]}"
    topics = [{"id": "379", "path": "News > Local", "tier": 2, "score": 0.81}, {"id": "150", "score": 0.4}]
    evidence = [{"task": "threat", "label": "crime", "score": 0.3, "start": 0, "end": 400, "words": WORDS[:5]}]
    made = {"tenant_id": TENANT, "document_id": url, "url": url, "fetched_at": now, "title": f"A story {number}"}
    held = {"expires_at": now + timedelta(days=30), "risk": "low", "topics": topics, "evidence": evidence}
    more = {"keywords": WORDS, "sentiment": "neutral", "sentiment_score": 0.91, "language": "en", "emotion": "joy"}
    return made | held | more | {"risks": [{"category": "crime", "level": "low", "score": 0.3}], "cattax": 9}


def asked(pages: int, count: int, seed: int = 1) -> list[str]:
    """Return addresses as bids have them, by Zipf's law, one in ten not stored."""
    chance, now = np.random.default_rng(seed), datetime.now(UTC)
    ranks = chance.zipf(EXPONENT, count) % pages
    # Ranks are spread over the store: the common ones are no neighbours.
    numbers = (ranks * 7_919) % pages + np.where(chance.random(count) < MISSES, pages, 0)
    return [f"{record(int(number), now)['url']}?utm_source=x&gclid={number}" for number in numbers]


def shown(name: str, seconds: Sequence[float]) -> float:
    """Print percentiles in milliseconds; return p99."""
    p = np.percentile(np.array(seconds) * 1_000, [50, 95, 99, 99.9])
    print(f"{name:<34}{len(seconds):>9,}" + "".join(f"{value:>10.3f}" for value in p), flush=True)
    return float(p[2])


def timed(work: Callable[[Any], Any], each: Sequence[Any]) -> list[float]:
    """Return the seconds of each piece of work, one after another."""
    seconds = []
    for one in each:
        started = time.perf_counter()
        work(one)
        seconds.append(time.perf_counter() - started)
    return seconds


@contextmanager
def publishing(store: SignalStore, pages: int) -> Iterator[None]:
    """Have 100 pages a second be put meanwhile."""
    stop = Event()

    def publish() -> None:
        number = 0
        while not stop.wait(0.5):
            now = datetime.now(UTC)
            store.put(record((number + n) * 31 % pages, now) for n in range(50))
            number += 50

    thread = Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def steady(address: tuple[str, int], requests: Sequence[bytes], rate: float) -> list[float]:
    """Send requests at a constant rate over a few connections; return the seconds from when each was due."""
    loop, seconds = asyncio.get_running_loop(), list[float]()
    queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(*address)
        while (one := await queue.get()) is not None:
            due, request = one
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            seconds.append(loop.time() - due)
        writer.close()

    workers = [asyncio.create_task(connection()) for _ in range(CONNECTIONS)]
    start = loop.time() + 0.2
    for number, request in enumerate(requests):
        due = start + number / rate
        await asyncio.sleep(max(due - loop.time(), 0))
        queue.put_nowait((due, request))
    for _ in workers:
        queue.put_nowait(None)
    await asyncio.gather(*workers)
    return seconds


def http_requests(urls: Sequence[str], key: str, at_once: int = 1) -> list[bytes]:
    """Return requests as they go over the wire."""
    head = f"Host: bench\r\nAuthorization: Bearer {key}\r\n"
    if at_once == 1:
        return [f"GET /v1/signals?url={quote(url, safe='')} HTTP/1.1\r\n{head}\r\n".encode() for url in urls]
    bodies = ['{"urls":["' + '","'.join(urls[n : n + at_once]) + '"]}' for n in range(0, len(urls), at_once)]
    head += "Content-Type: application/json\r\n"
    post = "POST /v1/signals/lookup HTTP/1.1\r\n"
    return [f"{post}{head}Content-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies]


def measure_http(address: tuple[str, int], key: str, pages: int, seconds: float, rates: Sequence[float]) -> None:
    """Print what a server does at each rate, and with 100 addresses a request."""
    for rate in rates:
        urls = asked(pages, int(rate * seconds), seed=int(rate))
        p99 = shown(f"HTTP, {rate:,} a second", asyncio.run(steady(address, http_requests(urls, key), rate)))
        if p99 > LIMIT_MS:
            print(f"p99 passes {LIMIT_MS:.0f} ms at {rate:,} a second")
            break
    urls = asked(pages, int(20 * seconds) * 100)
    shown("HTTP, 100 addresses, 20 a second", asyncio.run(steady(address, http_requests(urls, key, 100), 20)))


def measure_sharing(name: str, store: SignalStore, pages: int) -> None:
    """Print what shared reads are worth for a page that is not known, and for pages that several ask for at once."""
    now, unknown, same = datetime.now(UTC), record(pages, datetime.now(UTC))["url"], asked(pages, 2_000)
    took: dict[str, tuple[float, float]] = {}
    for how, reads in (("plain", store), ("shared", SharedReads(store))):

        def one(url: str, reads: Any = reads) -> None:
            look_up(reads, TENANT, [url], now)

        alone = float(np.median(timed(one, [unknown] * 5_000)))
        started = time.perf_counter()
        with ThreadPoolExecutor(ASKERS) as threads:
            list(threads.map(lambda _, one=one: timed(one, same), range(ASKERS)))
        took[how] = alone, time.perf_counter() - started
    (plain_alone, plain), (shared_alone, shared) = took.values()
    print(f"{name}: a hot unknown page {plain_alone * 1e6:.0f} us plain, {shared_alone * 1e6:.0f} us shared", end="")
    print(f" ({plain_alone / shared_alone:.2f}x); {ASKERS} at once {plain / shared:.2f}x as fast shared", flush=True)


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the address of a server of the store in a folder, without models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"SIGNAL_STORE": f"{folder}/signals", "API_KEYS": f"{folder}/keys.json", "API_MODELS": "false"}
    own |= {"API_RATE": "100000/second"}
    command = [str(Path(sys.executable).with_name("seamless")), "serve", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | own, cwd=PROJECT, stderr=log)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Fill a store, and print what looking up in it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    pages, now = arguments.pages, datetime.now(UTC)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with closing(signal_store(load_settings(signal_store=f"{folder}/signals"))) as store:
            started = time.perf_counter()
            store.put(record(number, now) for number in range(pages))
            print(f"{pages:,} pages put in {time.perf_counter() - started:.1f} s")
            print(f"{'':<34}{'requests':>9}{'p50':>10}{'p95':>10}{'p99':>10}{'p99.9':>10}")
            _, key = FileKeys(folder / "keys.json").add(TENANT, "decisioning", ("signals",))
            with publishing(store, pages):
                urls = asked(pages, 20_000)
                shown("in process", timed(lambda url: look_up(store, TENANT, [url], now), urls))
                hundreds = [urls[n : n + 100] for n in range(0, len(urls), 100)]
                shown("in process, 100 addresses", timed(lambda some: look_up(store, TENANT, some, now), hundreds))
                measure_sharing("folder", store, pages)
                with server(folder) as address:
                    measure_http(address, key, pages, arguments.seconds, RATES)
            value = store.get_many([store_key(TENANT, record(0, now)["document_id"])])
        with key_value(folder / "redis") as url, closing(signal_store(load_settings(signal_store=url))) as remote:
            remote.put(record(number, now) for number in range(min(pages, 20_000)))
            redis = remote._redis  # noqa: SLF001 - a bare GET, beside what stands on it
            numbers = np.random.default_rng(1).integers(0, 20_000, 20_000)
            keys = [store_key(TENANT, record(int(number), now)["document_id"]) for number in numbers]
            shown("bare Redis GET", timed(redis.get, keys))
            shown("look-up on Redis", timed(lambda one: look_up(remote, TENANT, [one], now), asked(20_000, 5_000)))
            measure_sharing("server", remote, 20_000)
        assert value[0] is not None


if __name__ == "__main__":
    main()
