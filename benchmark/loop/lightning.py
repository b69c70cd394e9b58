"""A ``Pruned`` data set in Lightning's loop (``pip install scan-bench[lightning]``)."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from benchmark.loop.pruned import Pruned


class PrunedCallback(Callback):
    """Puts the method's state into Lightning's checkpoints and tells it of each epoch's end.

    The module's ``training_step`` returns ``pruned.update(losses)``. Epochs differ in length, so the trainer must
    count their batches anew: ``Trainer(reload_dataloaders_every_n_epochs=1)``.
    """

    def __init__(self, pruned: Pruned) -> None:
        self.pruned = pruned

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises ValueError for a trainer that would cut long epochs short, or has more epochs than the method."""
        if vars(trainer)["reload_dataloaders_every_n_epochs"] != 1:  # which its class does not declare
            raise ValueError("epochs differ in length: give Trainer(reload_dataloaders_every_n_epochs=1)")
        if trainer.max_epochs is not None and trainer.max_epochs > self.pruned.num_epochs:
            raise ValueError(f"max_epochs is {trainer.max_epochs}, and num_epochs {self.pruned.num_epochs}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pruned.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        return self.pruned.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.pruned.load_state_dict(state_dict)
