"""Public research corpora as landed records: their files, and the mapping of a row to a record."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from resources.landing.budgets import MAX_CORPUS_BYTES
from resources.landing.records import Fields, source_name

TWEETEVAL_TASKS = {"offensive": "toxicity"}
TIERS = ("Tier 1", "Tier 2", "Tier 3", "Tier 4")
TAXONOMY = "iab_taxonomy/Content_Taxonomies/Content_Taxonomy_3.1.tsv"


@dataclass(frozen=True)
class Corpus:
    """A corpus.

    Attributes:
        folder: kind of its records, a key of ``readers.FOLDERS``.
        files: glob of its files below the landing folder.
        records: yields a file's records, given the file and the landing folder.
    """

    folder: str
    files: str
    records: Callable[[Path, Path], Iterator[Fields]]


def _data(path: Path) -> bytes:
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "rb") as file:
        data: bytes = file.read(MAX_CORPUS_BYTES + 1)
    if len(data) > MAX_CORPUS_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_CORPUS_BYTES} bytes")
    return data


def _text(path: Path) -> str:
    return _data(path).decode("utf-8")


def _tweeteval(path: Path, root: Path) -> Iterator[Fields]:
    folder, split = path.parent, path.name.removesuffix("_text.txt")
    names = dict(line.split("\t")[:2] for line in _text(folder / "mapping.txt").split("\n") if line.strip())
    labels = _text(folder / f"{split}_labels.txt").split()
    # Only "\n" ends a line: some tweets hold other line separators of Unicode.
    texts = _text(path).removesuffix("\n").split("\n")
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        yield {
            "label_id": f"{source_name(path, root)}:{number}",
            "task": TWEETEVAL_TASKS.get(folder.name, folder.name),
            "label": names[label],
            "text": text,
            "reviewer": "tweeteval",
            "split": split,
        }


class _Topic(NamedTuple):
    """A node of the topic taxonomy.

    Attributes:
        tier1: the node of the first tier above it.
        path: names from the first tier down to it.
    """

    tier1: str
    path: str


@lru_cache(maxsize=4)
def _taxonomy_of(root: Path) -> dict[str, _Topic]:
    """Return the nodes of the taxonomy by their id; none where it has not landed."""
    if not (root / TAXONOMY).is_file():
        return {}
    rows = list(csv.DictReader(_text(root / TAXONOMY).splitlines()[1:], delimiter="\t"))
    top = {row["Name"]: row["Unique ID"] for row in rows if not row["Parent"]}
    tiers = {row["Unique ID"]: [row[tier] for tier in TIERS if row.get(tier)] for row in rows}
    return {node: _Topic(top.get(path[0], "unmapped:"), " > ".join(path)) for node, path in tiers.items() if path}


def _topic_fields(root: Path, node: str, tier1: str) -> Fields:
    """Return the label fields of a topic: its first tier, and the node itself where it is a deeper one."""
    topic = _taxonomy_of(root).get(node)
    if topic is None or topic.tier1 != tier1 or node == tier1:
        return {"label": tier1}
    return {"label": tier1, "finer_label": node, "finer_path": topic.path}


@lru_cache(maxsize=8)
def _source_labels(root: Path, table: str, column: str) -> dict[tuple[str, str], str]:
    """Return the topic of each label of each corpus, as a table in the taxonomy's folder has it."""
    rows = list(csv.DictReader(_text(root / f"iab_taxonomy/{table}.tsv").splitlines(), delimiter="\t"))
    return {(row.get("dataset") or row["corpus"], row["source_label"]): row[column] for row in rows}


def _topics(path: Path, root: Path) -> Iterator[Fields]:
    dataset = path.parent.name
    for line in _text(path).split("\n"):
        if not line.strip():
            continue
        row = json.loads(line)
        title = row.get("title") or row.get("headline") or row.get("subject")
        body = row.get("text") or row.get("short_description")
        label = row["label"]
        names = (dataset, label), (dataset, label.lower())
        tables = (
            _source_labels(root, "source_label_to_iab31_tier1", "primary_iab_id"),
            _source_labels(root, "source_label_to_iab31", "unique_id") if _taxonomy_of(root) else {},
        )
        tier1, deepest = (next((table[name] for name in names if table.get(name)), "") for table in tables)
        yield {
            "label_id": f"{dataset}:{row['id']}",
            "task": "iab_category",
            **_topic_fields(root, deepest, tier1 or f"unmapped:{label}"),
            "text": "\n".join(part for part in (title, body) if part),
            "reviewer": dataset,
        }


def _deep_topics(path: Path, root: Path) -> Iterator[Fields]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            row = json.loads(line)
            topic = _taxonomy_of(root).get(row["label"])
            yield {
                "label_id": f"{source_name(path, root)}:{number}",
                "task": "iab_category",
                **_topic_fields(root, row["label"], topic.tier1 if topic else f"unmapped:{row['label']}"),
                "text": row["text"],
                "reviewer": "iab_deep",
            }


def _threat(path: Path, root: Path) -> Iterator[Fields]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            row = json.loads(line)
            yield {
                "label_id": f"{source_name(path, root)}:{number}",
                "task": "threat",
                "label": row["label"],
                "text": row["text"],
                "reviewer": row["source"],
                "split": path.name.removesuffix(".jsonl.gz"),
            }


def _languages(path: Path, root: Path) -> Iterator[Fields]:
    """Yield labelled texts in other languages than English."""
    task = {"sentiment": "sentiment", "topics": "iab_category"}[path.name.partition(".")[0]]
    for number, line in enumerate(_text(path).split("\n"), 1):
        row = json.loads(line) if line.strip() else {"lang": "en"}
        if row["lang"] != "en":
            # One sentence stands in each language: it may not teach in one what it measures in another.
            held_out = {"split": "val"} if row["source"] == "sib200" else {}
            yield {
                "label_id": f"{source_name(path, root)}:{number}",
                "task": task,
                "label": row["label"],
                "text": row["text"],
                "language": row["lang"],
                "reviewer": row["source"],
                **({"split": row["split"]} if "split" in row else held_out),
            }


def _taxonomy(path: Path, root: Path) -> Iterator[Fields]:
    for node, topic in _taxonomy_of(root).items():
        yield {
            "label_id": f"{source_name(path, root)}:{node}",
            "task": "iab_category",
            **_topic_fields(root, node, topic.tier1),
            "text": f"{topic.path.rpartition(' > ')[2]}: {topic.path}" if " > " in topic.path else topic.path,
            "reviewer": "taxonomy",
            "split": "train",
        }


def _goemotions(path: Path, root: Path) -> Iterator[Fields]:
    names = _text(path.parent / "labels.txt").split()
    for line in _text(path).split("\n"):
        if line.strip():
            text, ids, comment = line.split("\t")
            yield {
                "label_id": f"{source_name(path, root)}:{comment}",
                "task": "goemotions",
                "label": "|".join(names[int(number)] for number in ids.split(",")),
                "text": text,
                "reviewer": "goemotions",
                "split": "val" if path.stem == "dev" else "train",
            }


def _davidson(path: Path, root: Path) -> Iterator[Fields]:
    names = {"0": "hate speech", "1": "offensive language", "2": "neither"}
    for row in csv.DictReader(io.StringIO(_text(path), newline="")):
        yield {
            "label_id": f"{source_name(path, root)}:{row['id']}",
            "task": "hate_davidson",
            "label": names[row["class"]],
            "text": row["tweet"],
            "reviewer": "davidson",
            "split": "train",
        }


def _surge(path: Path, root: Path) -> Iterator[Fields]:
    for number, row in enumerate(csv.DictReader(io.StringIO(_text(path), newline="")), 1):
        yield {
            "label_id": f"{source_name(path, root)}:{number}",
            "task": "toxicity_surge",
            "label": row["is_toxic"],
            "text": row["text"],
            "reviewer": "surge",
            "split": "train",
        }


def _web_pages(path: Path, root: Path) -> Iterator[Fields]:  # noqa: ARG001
    metadata = next(path.parent.parent.glob("*.json"))
    url = json.loads(_text(metadata))[path.name.removesuffix(".html.gz")]["url"].strip()
    yield {"url": url, "content_type": "text/html", "body": _data(path)}


def _openrtb(path: Path, root: Path) -> Iterator[Fields]:
    document = json.loads(_text(path))
    calls = document.get("httpCalls") or [] if isinstance(document, dict) else []
    bids = []
    for call in calls:
        response = (call.get("mockResponse") or {}).get("body")
        seats = response.get("seatbid") or [] if isinstance(response, dict) else []
        prices = [bid.get("price") for seat in seats for bid in seat.get("bid") or []]
        bids.append(
            {
                "bidder": path.name.split("__")[0],
                "status": "bid" if prices else "no_bid",
                "price_cpm": max((price for price in prices if price is not None), default=None),
                "cur": response.get("cur") if isinstance(response, dict) else None,
                "response": response,
            }
        )
    request = document.get("mockBidRequest", document) if isinstance(document, dict) else document
    yield {"auction_id": source_name(path, root), "request": request, "bids": bids}


def _ipinyou(path: Path, root: Path) -> Iterator[Fields]:
    for number, row in enumerate(csv.DictReader(_text(path).splitlines(), delimiter="\t"), 1):
        # Prices are in the source's own unit, so no field in US dollars is set.
        yield {
            "auction_id": f"{source_name(path, root)}:{number}",
            "winner": "ipinyou",
            "market_price": float(row["market_price"]),
            "click": int(row["click"]),
            "predicted_ctr": float(row["predicted_ctr"]),
        }


def _pictures(path: Path, root: Path) -> Iterator[Fields]:
    media = "image/png" if path.suffix == ".png" else "image/jpeg"
    yield {"url": f"file:///{source_name(path, root)}", "content_type": media, "body": _data(path)}


def _picture_labels(path: Path, root: Path) -> Iterator[Fields]:
    for row in csv.DictReader(io.StringIO(_text(path), newline="")):
        yield {
            "label_id": f"{source_name(path, root)}:{row['file']}",
            "task": "image_threat",
            "label": "safe" if row["label"] == "benign" else row["label"],
            "document_id": f"file:///{path.parent.name}/{row['file']}",
            "reviewer": "images_safety",
            "split": "val",
        }


# Domains of supply-chain files that do not lie in a folder named by their domain.
DECLARED_BY = {
    "rtb_openrtb/supply_chain/ads.txt": "1xsmp.lol",
    "rtb_openrtb/supply_chain/sellers_admaru.json": "admaru.com",
}
CORPORA = (
    Corpus("labels", "tweeteval/*/*_text.txt", _tweeteval),
    Corpus("labels", "topics_*/dev.jsonl.gz", _topics),
    Corpus("labels", "iab_deep/dev.jsonl.gz", _deep_topics),
    Corpus("labels", TAXONOMY, _taxonomy),
    Corpus("labels", "threat/*.jsonl.gz", _threat),
    Corpus("labels", "languages/*.jsonl.gz", _languages),
    Corpus("labels", "goemotions/*.tsv", _goemotions),
    Corpus("labels", "hate_davidson/dev.csv", _davidson),
    Corpus("labels", "toxicity_surge/dev.csv", _surge),
    Corpus("labels", "images_safety/labels.csv", _picture_labels),
    Corpus("pages", "webpages_article/html/*.html.gz", _web_pages),
    Corpus("pages", "webpages_segments/html/*.html.gz", _web_pages),
    Corpus("pages", "images_safety/*/*.jpg", _pictures),
    Corpus("pages", "images_safety/*/*.png", _pictures),
    Corpus("rtb_auctions", "rtb_openrtb/bsm_openrtb/*.json", _openrtb),
    Corpus("rtb_auctions", "rtb_openrtb/prebid_sample_requests/*.json", _openrtb),
    Corpus("rtb_auctions", "rtb_openrtb/prebid_adapter_fixtures/*.json", _openrtb),
    Corpus("rtb_auctions", "rtb_ipinyou_2997/dev.tsv.gz", _ipinyou),
)
