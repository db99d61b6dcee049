"""Is a picture fit to stand beside an advertisement? Answered by a packaged classifier, not trained here."""

from signals.tasks import Task

TASK = Task(
    name="image_threat",
    labels=("safe", "adult"),
    documents=("image",),
    metric="accuracy",
    floor=0.90,
    retrain_after=50,
    nothing="safe",
    risk={"safe": "none", "adult": "floor"},
)
