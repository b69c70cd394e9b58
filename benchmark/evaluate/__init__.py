"""Evaluating a model: tasks, what they yield, and their predictions item by item."""

from benchmark.evaluate.task import Task, make_task
from benchmark.models.encoder import Encoder
from benchmark.runs.predictions import Predictions, paired, read_predictions

__all__ = ["Encoder", "Predictions", "Task", "make_task", "paired", "read_predictions"]
