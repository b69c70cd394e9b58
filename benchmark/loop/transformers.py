"""A ``Pruned`` data set in Hugging Face's Trainer (``pip install scan-bench[transformers]``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from benchmark import dist
from benchmark.files import write_atomic
from benchmark.loop.pruned import Pruned

STATE_FILE = "pruned.pt"


class PrunedCallback(TrainerCallback):
    """Puts the method's state beside the Trainer's checkpoints and tells it of each epoch's end."""

    def __init__(self, pruned: Pruned) -> None:
        self.pruned = pruned

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step:  # it goes on from a checkpoint
            self.pruned.load_state_dict(torch.load(_file(args, state), weights_only=True))

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.pruned.end_epoch()
        if self.pruned.epoch >= self.pruned.num_epochs:  # the Trainer reckons epochs by steps of the longest
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            write_atomic(_file(args, state), lambda file: torch.save(self.pruned.state_dict(), file))


class PrunedTrainer(Trainer):
    """The Trainer on ``train_dataset=Pruned(…)``.

    ``losses_of(model, inputs)`` gives a batch's losses, float [b] or [b, 2], and the model's outputs.
    ``TrainingArguments.num_train_epochs`` must be the data set's ``num_epochs``. The Trainer counts an epoch's
    steps once, so its length is that of full data; a learning rate should follow ``pruned.progress``.
    """

    def __init__(
        self, *args: Any, losses_of: Callable[[nn.Module, Any], tuple[Tensor, Any]], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.losses_of, self.loss_is_scaled_for_ga = losses_of, False
        if not isinstance(self.train_dataset, Pruned):
            raise ValueError(f"train_dataset must be a Pruned, got {type(self.train_dataset).__name__}")
        if self.args.num_train_epochs != self.train_dataset.num_epochs:
            raise ValueError(
                f"num_train_epochs is {self.args.num_train_epochs}, and num_epochs {self.train_dataset.num_epochs}"
            )
        self.args.ignore_data_skip = True  # a checkpoint's state says where its epoch goes on
        self.add_callback(PrunedCallback(self.train_dataset))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        losses, outputs = self.losses_of(model, inputs)
        assert isinstance(self.train_dataset, Pruned)
        loss = self.train_dataset.update(losses) if model.training else losses.mean()
        return (loss, outputs) if return_outputs else loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        assert isinstance(self.train_dataset, Pruned)
        return _Loader(
            self.train_dataset,
            self._train_batch_size,
            sampler=self.train_dataset.sampler,
            drop_last=True,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )


class _Loader(DataLoader[Any]):
    def __len__(self) -> int:
        """Batches of an epoch on full data."""
        assert self.batch_size is not None
        return len(self.dataset) // dist.world() // self.batch_size  # type: ignore[arg-type]


def _file(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE_FILE
