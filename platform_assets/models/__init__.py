"""One asset a task, its value the registered version of the task's model; and the encoder."""

from platform_assets.models.encoder import encoder_model
from platform_assets.models.heads import model_asset
from signals.tasks import TASKS

ASSETS = [encoder_model, *(model_asset(task) for task in TASKS.values())]
