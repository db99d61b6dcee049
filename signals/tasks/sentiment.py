"""How does the author feel about what the text is about?"""

from signals.tasks import Task

TASK = Task(
    name="sentiment",
    labels=("negative", "neutral", "positive"),
    documents=("page", "message"),
    metric="macro_recall",
    floor=0.45,
    retrain_after=500,
)
