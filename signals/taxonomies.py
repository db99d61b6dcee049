"""Topics of IAB Content Taxonomy 3.1, and the categories of its older versions that they are there.

``iab_taxonomy.tsv`` has every node of 3.1, its parent, and its counterparts in 3.0, 2.2 and 1.0; ``docs/openrtb.md``
says how they were found.
"""

import csv
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# Versions in OpenRTB's list of taxonomies (AdCOM, List: Category Taxonomies), and the column of each.
CATTAX = 9
COLUMNS = {CATTAX: "id", 7: "3.0", 6: "2.2", 1: "1.0"}


@cache
def nodes() -> dict[str, dict[str, str]]:
    """Return the rows of the table by the ids of 3.1; a cell is empty where there is nothing to say."""
    text = Path(__file__).with_name("iab_taxonomy.tsv").read_text(encoding="utf-8")
    return {row["id"]: row for row in csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)}


def lineage(topic: str) -> tuple[str, ...]:
    """Return a topic and all above it, nearest first; of an id that is none of 3.1, only itself."""
    node = nodes().get(topic)
    return (topic, *lineage(node["parent"])) if node and node["parent"] else (topic,)


def categories(topics: Iterable[str], cattax: int) -> list[str]:
    """Return the categories of a version that topics are, each once, in the order of the topics.

    A topic without a counterpart is that of the nearest above it which has one, or none.

    Args:
        topics: ids of 3.1; others are left out.
        cattax: one of ``COLUMNS``.
    """
    known = _counterparts(COLUMNS[cattax])
    return list(dict.fromkeys(known[topic] for topic in topics if known.get(topic)))


@cache
def _counterparts(column: str) -> dict[str, str]:
    return {topic: next(filter(None, (nodes()[node][column] for node in lineage(topic))), "") for topic in nodes()}
