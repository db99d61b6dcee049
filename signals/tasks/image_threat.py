"""Is a picture fit to stand beside an advertisement?

The packaged classifier sees what is adult. The other labels are those of texts, for a model that a user adds.
"""

from signals.tasks import Task
from signals.tasks.threat import TASK as THREAT

_SEEN = tuple(label for label in THREAT.labels if label not in (THREAT.nothing, "spam_malware"))

TASK = Task(
    name="image_threat",
    labels=("safe", *_SEEN),
    documents=("image",),
    metric="accuracy",
    floor=0.90,
    retrain_after=50,
    nothing="safe",
    risk={"safe": "none", **{label: THREAT.risk[label] for label in _SEEN}},
)
