"""One asset a task, its value the registered version of the task's model; the encoder, and whether a GPU may run it."""

from platform_assets.models.encoder import encoder_model
from platform_assets.models.heads import model_asset
from platform_assets.models.parity import encoder_parity
from signals.tasks import TASKS

ASSETS = [encoder_model, encoder_parity, *(model_asset(task) for task in TASKS.values())]
