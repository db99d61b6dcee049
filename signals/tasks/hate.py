"""Does the text attack people for what they are (origin, faith, gender, …)?"""

from signals.tasks import Task

TASK = Task(
    name="hate",
    labels=("not-hate", "hate"),
    documents=("page", "message"),
    metric="macro_f1",
    floor=0.55,
    retrain_after=300,
    groups={"neutral": "not-hate", "attack": "hate"},
    # Offensive language that is not hate speech is what a model takes for it first. None of the task's own labels
    # teach that: those that do count in full.
    auxiliary={"hate_davidson": {"hate speech": "hate", "offensive language": "not-hate", "neither": "not-hate"}},
    auxiliary_weight=1.0,
)
