"""What is the document about, in the 37 tier-1 topics of the IAB Content Taxonomy 3.1?

Labels are the taxonomy's unique ids. Topics that nobody has labelled are answered from their names and
descriptions in ``signals/tasks/iab_topics.tsv``.
"""

import csv
from pathlib import Path

from signals.tasks import Task

_ROWS = list(
    csv.DictReader(
        (Path(__file__).with_name("iab_topics.tsv")).read_text(encoding="utf-8").splitlines(),
        delimiter="\t",
    )
)

TASK = Task(
    name="iab_category",
    labels=tuple(row["id"] for row in _ROWS),
    documents=("page", "message"),
    metric="macro_f1",
    floor=0.30,
    retrain_after=500,
    # Topics have a threshold each, and the likeliest is never left out.
    precision=0.0,
    several=True,
    explained=True,
    names={row["id"]: row["name"] for row in _ROWS},
    seeds={
        row["id"]: (row["name"], f"{row['name']}: {row['subtopics']}", *row["examples"].split(" | ")) for row in _ROWS
    },
)
