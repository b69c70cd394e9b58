"""One run as frozen dataclasses, what it asks of the machine, and the sweep file it comes from."""

from benchmark.config.launch import LaunchConfig
from benchmark.config.run import Choice, RunConfig, TrainConfig, as_choice, resolved

__all__ = ["Choice", "LaunchConfig", "RunConfig", "TrainConfig", "as_choice", "resolved"]
