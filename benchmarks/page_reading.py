"""What reading a whole page finds, and what it costs, by how many passages the encoder reads beside the lead.

Usage: python -m benchmarks.page_reading [--lake .lake]

The lakehouse holds the labels of `seamless run --input ../shared/data`. The head of threat is trained on them. Pages of
18,000 characters are put together from held-out texts on harmless topics; into some of them goes one held-out text that
threatens. Alarms are the share of harmless pages that get a threat; found is the share of the others whose own threat
is likely enough to be a risk.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from resources.encoder import encoder
from resources.lakehouse.tables import Lakehouse
from resources.settings import settings
from signals.documents.passages import lead
from signals.models import training
from signals.models.examples import examples
from signals.models.heads import Floats, LinearHead
from signals.models.ngrams import ngrams
from signals.models.page_reading import PageReading
from signals.risks import risk_policy
from signals.tasks import TASKS
from signals.tasks.threat import HARMLESS_TOPICS, TASK

CHARACTERS = 18_000
PAGES = 100
BUDGETS = (0, 1, 2, 4, 8)
KINDS = ("terrorism", "arms", "drugs", "hate", "death_injury", "crime")
NOTHING = TASK.labels.index(str(TASK.nothing))
Encode = Callable[[list[str]], Floats]


def trained(labels: pl.DataFrame, vectors: pl.DataFrame, encode: Encode) -> LinearHead:
    """Return the head of threat."""
    rows = examples(TASK, labels)
    known = rows.join(vectors, on="content_hash", how="left", maintain_order="left")["vector"]
    stacked = np.stack(known.to_list()).astype(np.float32)
    return training.train(TASK, rows, stacked, encode(training.seed_texts(TASK)[0])).head


def held_out(labels: pl.DataFrame, task: str, least: int) -> pl.DataFrame:
    """Return the held-out texts of a task that have at least so many characters."""
    rows = labels.filter(pl.col("task") == task, pl.col("split") == "val", pl.col("text").str.len_chars() >= least)
    return rows.unique("content_hash").sort("content_hash")


def page(articles: list[str], chance: np.random.Generator) -> list[str]:
    """Return articles that make a page together."""
    chosen, characters = [], 0
    while characters < CHARACTERS:
        chosen.append(articles[chance.integers(len(articles))])
        characters += len(chosen[-1])
    return chosen


def main() -> None:
    """Print a line a budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", default=".lake")
    lake, chance = Lakehouse(uri=parser.parse_args().lake), np.random.default_rng(1)
    labels = lake.read("silver/labels")
    encode = encoder(settings()).encode
    vectors = lake.read("silver/embeddings").select("content_hash", "vector").unique("content_hash")
    head = trained(labels, vectors, encode)

    articles = held_out(labels, TASKS["iab_category"].name, 500).filter(pl.col("label").is_in(HARMLESS_TOPICS))
    threats = held_out(labels, TASK.name, 60)
    harmless = ["\n".join(page(articles["text"].to_list(), chance)) for _ in range(PAGES)]
    mixed, kinds = [], []
    for kind in KINDS:
        for text in threats.filter(pl.col("label") == kind)["text"].head(25):
            parts = page(articles["text"].to_list(), chance)
            parts.insert(int(chance.integers(1, len(parts))), text)
            mixed.append("\n".join(parts))
            kinds.append(kind)
    texts = [*harmless, *mixed]
    leads = head.scores(encode([text[lead(text).start : lead(text).end] for text in texts]), ngrams(texts))
    columns = np.array([TASK.labels.index(kind) for kind in kinds])
    for budget in BUDGETS:
        started = time.perf_counter()
        scores = leads if budget == 0 else PageReading(texts).worst(head, leads, NOTHING, encode, budget)[0]
        seconds = time.perf_counter() - started
        alarms = (scores[:PAGES].argmax(axis=1) != NOTHING).mean()
        own = scores[np.arange(PAGES, len(texts)), columns] >= risk_policy().from_score
        found = {kind: f"{own[columns == TASK.labels.index(kind)].mean():.0%}" for kind in KINDS}
        print(f"{budget} passages: alarms {alarms:.0%}, found {found}, {seconds / len(texts) * 1e3:.1f} ms a page")


if __name__ == "__main__":
    main()
