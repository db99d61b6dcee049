"""Does the message mean the opposite of what it says? Asked of messages only: articles are not tweets."""

from signals.tasks import Task

TASK = Task(
    name="irony",
    labels=("non_irony", "irony"),
    documents=("message",),
    metric="f1_positive",
    floor=0.45,
    retrain_after=300,
)
