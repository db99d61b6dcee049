"""The rows of a subject, in tables as the catalog declares them: also in one that was declared a moment ago."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import polars as pl
import pytest

from governance import catalog
from governance.erasure import Subject
from platform_assets.subjects import documents_of, remove, rows_of
from resources.lakehouse.tables import Lakehouse

ME, OTHER, TENANT = Subject("u-1", "acme"), "u-2", "acme"
RECORD = f'{{"user":"{ME.id}","tenant_id":"{TENANT}"}}'
DAY = date(2026, 11, 9)
NEW = """
owner: content
grain: one thing
key: [thing]
columns:
  tenant: [tenant_id]
  subject: [buyer]
  public: [thing, event_date]
"""


@pytest.fixture
def lake(tmp_path) -> Lakehouse:
    return Lakehouse(uri=str(tmp_path / "lake"))


@pytest.fixture
def new_table(tmp_path, monkeypatch):
    """Have the catalog declare one more table."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    for file in catalog.FOLDER.glob("*.yaml"):
        (folder / file.name).write_text(file.read_text())
    (folder / "gold_things.yaml").write_text(NEW)
    monkeypatch.setattr(catalog, "FOLDER", folder)
    catalog.tables.cache_clear()
    yield "gold/things"
    catalog.tables.cache_clear()


def row(table: catalog.Table, number: int, **values: Any) -> dict[str, Any]:
    """Return a row of a table that names nobody, of its own document and text."""
    own: dict[str, Any] = {name: f"{name}-{number}" for name in table.classes if name != "event_date"}
    if table.layer == "bronze":
        own["undeclared"] = None
    day = {"event_date": DAY} if "event_date" in table.classes else {}
    return own | ({"tenant_id": TENANT} if "tenant_id" in own else {}) | day | values


def write(lake: Lakehouse, table: str, rows: list[Mapping[str, Any]]) -> None:
    types = dict.fromkeys(name for name in rows[0] if name != "event_date")
    schema = dict.fromkeys(types, pl.String) | ({"event_date": pl.Date} if "event_date" in rows[0] else {})
    lake.append_once(table, pl.DataFrame(rows, schema=schema), {}, {})


def write_all(lake: Lakehouse) -> dict[str, int]:
    """Write a row of another in every table, and one for each way in which the catalog lets a row hold the subject.

    Returns:
        The number of the subject's rows of each table that has any.
    """
    expected = {}
    for table in catalog.tables().values():
        ways = [{name: ME.id} for name in table.columns.get("subject", ())]
        ways += [{name: RECORD} for name in table.columns.get("personal", ())]
        ways += [{"undeclared": RECORD}] if table.layer == "bronze" else []
        rows = [row(table, 1 + number, **way) for number, way in enumerate(ways)]
        write(lake, table.name, [row(table, 0), *rows])
        if rows:
            expected[table.name] = len(rows)
    return expected


def test_every_table_that_may_hold_a_subject_is_reached_and_nothing_else_is(lake, new_table):
    expected = write_all(lake)
    assert new_table in expected
    found = {table: rows.height for table, rows in rows_of(lake, ME).items()}
    subjects = {table: rows for table, rows in expected.items() if rows}
    assert {table: found[table] for table in subjects} == subjects
    # The rest hangs on the documents and texts of what the subject wrote, whose names are those of other rows here.
    hangs = {name for name, table in catalog.tables().items() if {"document_id", "content_hash"} & {*table.classes}}
    assert {*found} - {*subjects} <= hangs


def test_rows_about_what_a_subject_wrote_are_theirs_and_shared_texts_are_not(lake):
    messages, labels = catalog.table("silver/messages"), catalog.table("silver/labels")
    mine = [row(messages, n, author_id=ME.id, document_id=f"m-{n}", content_hash=f"h-{n}") for n in (1, 2, 3)]
    write(lake, "silver/messages", [*mine, row(messages, 4, document_id="m-4", content_hash="h-2")])
    write(
        lake,
        "silver/labels",
        [
            row(labels, 1, document_id="m-1", content_hash="h-1"),
            row(labels, 2, document_id=None, content_hash="h-3"),
            row(labels, 3, document_id="m-1", tenant_id="other", content_hash="h-9"),
        ],
    )
    unresolved = catalog.table("bronze/review_labels")
    write(
        lake,
        "bronze/review_labels",
        [row(unresolved, 1, document_id="m-1", tenant_id=None), row(unresolved, 2, document_id="m-4")],
    )
    for table in ("silver/decisions", "gold/audit_trail"):
        entry = catalog.table(table)
        write(lake, table, [row(entry, n, document_id=f"m-{n}", content_hash=f"h-{n}") for n in (1, 4)])
    vectors = catalog.table("silver/embeddings")
    write(lake, "silver/embeddings", [row(vectors, n, content_hash=f"h-{n}") for n in (1, 2, 3, 9)])
    broken = catalog.table("silver/quarantine")
    quarantined = ['{"label_id":"l","document_id":"m-2"}', '{"label_id":"l","document_id":"m-4"}']
    write(lake, "silver/quarantine", [row(broken, n, row=record) for n, record in enumerate(quarantined)])

    rows = rows_of(lake, ME)
    assert {table: part.height for table, part in rows.items()} == {
        "silver/messages": 3,
        "silver/labels": 1,
        "bronze/review_labels": 1,
        "silver/decisions": 1,
        "gold/audit_trail": 1,
        "silver/embeddings": 1,
        "silver/quarantine": 1,
    }
    assert rows["silver/embeddings"]["content_hash"].to_list() == ["h-1"]
    assert next(iter(rows)) == "silver/embeddings"
    assert list(rows)[-1] == "silver/messages"
    assert sorted(documents_of(rows)["document_id"]) == ["m-1", "m-2", "m-3"]

    before = {table: lake.read(table) for table in rows}
    remove(lake, rows)
    assert rows_of(lake, ME) == {}
    for table, part in rows.items():
        kept = before[table].join(part, on=list(catalog.table(table).key), how="anti", nulls_equal=True)
        assert sorted(lake.read(table).rows(), key=str) == sorted(kept.select(before[table].columns).rows(), key=str)


@pytest.mark.parametrize("removed", range(6))
def test_what_a_killed_removal_has_left_is_found_again(lake, removed):
    messages, decisions = catalog.table("silver/messages"), catalog.table("silver/decisions")
    write(lake, "silver/messages", [row(messages, 1, author_id=ME.id, document_id="m-1", content_hash="h-1")])
    signals = catalog.table("silver/message_signals")
    write(lake, "silver/message_signals", [row(signals, 1, author_id=ME.id, document_id="m-1", content_hash="h-1")])
    write(lake, "silver/decisions", [row(decisions, 1, document_id="m-1", content_hash="h-1")])
    write(lake, "silver/embeddings", [row(catalog.table("silver/embeddings"), 1, content_hash="h-1")])
    write(lake, "bronze/social_messages", [row(catalog.table("bronze/social_messages"), 1, author_id=ME.id)])
    remove(lake, dict(list(rows_of(lake, ME).items())[:removed]))
    remove(lake, rows_of(lake, ME))
    assert [lake.count(table) for table in catalog.tables() if lake.exists(table)] == [0] * 5
