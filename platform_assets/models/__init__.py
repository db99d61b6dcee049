"""One asset a task, its value the registered version of the task's model."""

from platform_assets.models.heads import model_asset
from signals.tasks import TASKS

ASSETS = [model_asset(task) for task in TASKS.values()]
