"""The callback for Lightning: epochs of different length, and checkpoints in the midst of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_loop import BATCH, EPOCHS, line, losses_of, pruned_numbers, trained
from torch.utils.data import DataLoader

lightning = pytest.importorskip("lightning.pytorch")


def fitted(folder: Path, resume: Path | None = None, **options: Any) -> list[list[int]]:
    """Ids of each batch."""
    from benchmark.loop.lightning import PrunedCallback

    pruned, seen = pruned_numbers(), []

    class Line(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.line = line()

        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(pruned, BATCH, sampler=pruned.sampler, drop_last=True)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return pruned.update(losses_of(self.line, batch, seen))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    saving = lightning.callbacks.ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    options = {"max_epochs": EPOCHS, "reload_dataloaders_every_n_epochs": 1, **options}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(callbacks=[PrunedCallback(pruned), saving], **quiet, **options)
    trainer.fit(Line(), ckpt_path=resume, weights_only=False)
    return seen


@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_on_the_batches_of_a_plain_loop_and_goes_on_from_any_step(tmp_path: Path) -> None:
    whole = fitted(tmp_path / "whole")
    assert whole == trained()
    for step in (3, 18, 23, 24):
        rest = fitted(tmp_path / f"from-{step}", tmp_path / "whole" / f"step={step}.ckpt")
        assert rest == whole[step:], f"from step {step}"


def test_a_trainer_that_would_cut_long_epochs_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reload_dataloaders_every_n_epochs=1"):
        fitted(tmp_path, reload_dataloaders_every_n_epochs=0)
    with pytest.raises(ValueError, match="max_epochs is 8, and num_epochs 7"):
        fitted(tmp_path, max_epochs=8)
