"""Models: one asset per task, whose value is the registered version, and the encoder."""

from platform_assets.models.encoder import encoder_model
from platform_assets.models.heads import model_asset
from signals.tasks import TASKS

ASSETS = [encoder_model, *(model_asset(task) for task in TASKS.values())]
