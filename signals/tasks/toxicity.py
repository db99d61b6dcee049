"""Would a reader take offence: insults, threats, profanity, whatever the target?"""

from signals.tasks import Task

TASK = Task(
    name="toxicity",
    labels=("not-offensive", "offensive"),
    documents=("page", "message"),
    metric="macro_f1",
    floor=0.55,
    retrain_after=300,
    groups={"neutral": "not-offensive", "attack": "offensive"},
    auxiliary={
        "hate_davidson": {
            "hate speech": "offensive",
            "offensive language": "offensive",
            "neither": "not-offensive",
        },
        "toxicity_surge": {"Toxic": "offensive", "Not Toxic": "not-offensive"},
    },
)
