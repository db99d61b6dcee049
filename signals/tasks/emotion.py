"""Which of four emotions does the text express most?"""

from signals.tasks import Task

TASK = Task(
    name="emotion",
    labels=("anger", "joy", "optimism", "sadness"),
    documents=("page", "message"),
    metric="macro_f1",
    floor=0.40,
    retrain_after=300,
    auxiliary={"goemotions": {label: label for label in ("anger", "joy", "optimism", "sadness")}},
)
