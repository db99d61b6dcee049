import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.tasks import TASKS
from signals.taxonomies import CATTAX, COLUMNS, categories, lineage, nodes
from tests.support import SHARED

PUBLISHED = SHARED / "data/iab_taxonomy"
OLDER = sorted(set(COLUMNS) - {CATTAX})
TOPICS = sorted(nodes())
# What the IAB's table of 1.0 and 2.0 says otherwise than its list of 1.0.
MISPRINTS = {"AB7": "IAB7"}


def rows(file: Path) -> list[list[str]]:
    if not file.exists():
        pytest.skip("needs shared/data/iab_taxonomy")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter="\t")]


def taxonomy(version: str) -> dict[str, list[str]]:
    """Return the path of each id as the IAB publishes it; of 1.0, its name."""
    table = rows(PUBLISHED / f"Content_Taxonomies/Content_Taxonomy_{version}.tsv")
    if version == "1.0":
        return {row[0]: [row[2]] for row in table[1:]}
    return {row[0]: [name for name in row[3:7] if name] for row in table[2:] if len(row) > 3 and row[0]}


def test_all_of_the_taxonomy_is_there_with_the_parent_that_its_path_names():
    published = taxonomy("3.1")
    assert [nodes()[topic]["name"] for topic in published] == [path[-1] for path in published.values()]
    for topic, path in published.items():
        assert [nodes()[above]["name"] for above in lineage(topic)] == path[::-1]


def test_the_topics_of_the_task_are_the_top_of_the_taxonomy():
    top = {topic: node["name"] for topic, node in nodes().items() if not node["parent"]}
    assert len(nodes()) == 704
    assert top == dict(TASKS["iab_category"].names)


@pytest.mark.parametrize("cattax", OLDER)
def test_every_category_exists_in_its_version(cattax):
    assert {node[COLUMNS[cattax]] for node in nodes().values()} - {""} <= set(taxonomy(COLUMNS[cattax]))


def test_a_node_is_carried_over_under_its_own_id_or_not_at_all():
    for column in ("3.0", "2.2"):
        assert all(node[column] in ("", topic) for topic, node in nodes().items())


def test_a_category_of_1_0_is_one_that_the_iab_pairs_with_the_node():
    pairs = {
        (row[3], MISPRINTS.get(row[0], row[0]))
        for row in rows(PUBLISHED / "Taxonomy_Mappings/Content_1.0_to_Content_2.0.tsv")
    }
    pairs |= {(row[0], row[1]) for row in rows(PUBLISHED / "Taxonomy_Mappings/Content_2.0_to_Content_2.1.tsv")}
    assert {(topic, node["1.0"]) for topic, node in nodes().items() if node["1.0"]} <= pairs


@pytest.mark.parametrize(("cattax", "column"), COLUMNS.items())
def test_a_topic_is_what_it_is_there_or_what_the_nearest_above_it_is(cattax, column):
    for topic in TOPICS:
        own, (_, *above) = nodes()[topic][column], lineage(topic)
        expected = [own] if own else categories(above[:1], cattax)
        assert categories([topic], cattax) == expected


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("497", {7: "497", 6: "497", 1: "IAB17-16"}),  # Horse Racing is the same in all
        ("700", {7: "SPSHQ5"}),  # Thriller is new in 3.1; 2.2 has no Genres
        ("647", {7: "647"}),  # in 2.2 the same id is Drama TV, not drama
        ("WQC6HR", {7: "WQC6HR", 6: "602", 1: "IAB19"}),  # Maps & Navigation, of Software, of Technology
        ("657", {7: "657", 6: "657", 1: "IAB20"}),  # the IAB brings Japan into Asia Travel; the way back is a guess
    ],
)
def test_some_topics_in_older_versions(topic, expected):
    assert {cattax: found[0] for cattax in OLDER if (found := categories([topic], cattax))} == expected


@given(st.lists(st.sampled_from(TOPICS) | st.text()), st.sampled_from(list(COLUMNS)))
def test_any_topics_become_distinct_categories_in_their_order(topics, cattax):
    found = categories(topics, cattax)
    assert len(found) == len(set(found))
    assert found == list(dict.fromkeys(category for topic in topics for category in categories([topic], cattax)))
    assert all(any(nodes()[above][COLUMNS[cattax]] == one for above in nodes()) for one in found)
