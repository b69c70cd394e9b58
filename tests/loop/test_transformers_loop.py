"""The callback for Hugging Face's Trainer: epochs of different length, and checkpoints in the midst of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_loop import BATCH, EPOCHS, line, losses_of, pruned_numbers, trained

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")


def fitted(folder: Path, resume: Path | None = None, **options: Any) -> list[list[int]]:
    """Ids of each batch."""
    from benchmark.loop.transformers import PrunedTrainer

    model, seen = line(), []
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        **{"num_train_epochs": EPOCHS, **options},
        learning_rate=0.1,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        save_strategy="steps",
        save_steps=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = PrunedTrainer(
        model,
        arguments,
        train_dataset=pruned_numbers(),
        losses_of=lambda model, batch: (losses_of(model, batch, seen), None),
        optimizers=(torch.optim.SGD(model.parameters(), 0.1), None),
    )
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return seen


def test_the_trainer_trains_on_the_batches_of_a_plain_loop_and_goes_on_from_any_step(tmp_path: Path) -> None:
    whole = fitted(tmp_path)
    assert whole == trained()
    for step in (23, 18, 3):
        rest = fitted(tmp_path, tmp_path / f"checkpoint-{step}")
        assert rest == whole[step:], f"from step {step}"


def test_another_number_of_epochs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_train_epochs is 5, and num_epochs 7"):
        fitted(tmp_path, num_train_epochs=5)
