"""Documents a second that the API classifies with every task at saturation, as a share of what its encoder does alone.

    python -m benchmarks.saturation --rounds 3

The two take turns on the same texts, so that what else the machine does counts for both. The heads answer at random,
which costs as much as if they knew.
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.serving import TENANT, WORDS
from benchmarks.soak import free_port, serving
from resources.api_keys import FileKeys
from resources.encoder import Encoder
from resources.registry.models import registry
from resources.settings import load_settings
from serving.client import Client
from signals.tasks import tasks_for
from tests.encoders import head

CALLERS, AT_ONCE, SECONDS = 8, 8, 10.0


def texts(caller: int, number: int) -> list[str]:
    """Return messages of some 25 words, which no other request has."""
    told = " ".join(WORDS * 3)
    return [f"{caller} says for the {number}th time, number {place}: {told}" for place in range(AT_ONCE)]


def classified(port: int, key: str) -> float:
    """Return the documents a second that some callers are answered about."""

    def call(caller: int) -> int:
        done, until = 0, time.monotonic() + SECONDS
        with Client(f"http://127.0.0.1:{port}", key, timeout=300) as client:
            while time.monotonic() < until:
                answers = client.classify([{"text": text} for text in texts(caller, time.monotonic_ns())])
                assert {answer.status for answer in answers} == {"decided"}
                done += len(answers)
        return done

    started = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as callers:
        documents = sum(callers.map(call, range(CALLERS)))
    return documents / (time.monotonic() - started)


def encoded(encoder: Encoder) -> float:
    """Return the documents a second that the encoder does alone."""
    done, started = 0, time.monotonic()
    while time.monotonic() < started + SECONDS:
        done += len(encoder.encode([text for caller in range(CALLERS) for text in texts(caller, done)]))
    return done / (time.monotonic() - started)


def main() -> None:
    """Print the documents a second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kept = {"signal_store": f"{folder}/signals", "api_keys": f"{folder}/keys.json"}
        kept |= {"mlflow_tracking_uri": f"sqlite:///{folder}/db", "mlflow_artifacts": f"{folder}/files"}
        kept |= {
            "model_cache": f"{folder}/cache",
            "lakehouse_uri": f"{folder}/lake",
            "decision_spool": f"{folder}/spool",
        }
        models, encoder = registry(load_settings(**kept)), Encoder()
        for number, task in enumerate(tasks_for("message")):
            head(models, Encoder(registry=models), task.name, number)
        _, key = FileKeys(folder / "keys.json").add(TENANT, "decisioning")
        port = free_port()
        with serving(folder, kept, port):
            encoder.encode(texts(0, 0))
            classified(port, key)
            shares = []
            for _ in range(rounds):
                of_api, of_encoder = classified(port, key), encoded(encoder)
                shares.append(of_api / of_encoder)
                print(f"API {of_api:.1f} a second, encoder {of_encoder:.1f}: {shares[-1]:.2f}", flush=True)
    print(f"median share: {statistics.median(shares):.2f}")


if __name__ == "__main__":
    main()
