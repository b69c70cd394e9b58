"""open_clip's own training command, with the seconds of its epochs. Needs webdataset 0.2.86: see data.py."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch

NAME = "scan-bench-perf"
PRECISION = {"fp32": "fp32", "bf16": "amp_bf16"}


def epoch_seconds(
    model: Mapping[str, Any], shards: Path, samples: int, config: Any, device: torch.device
) -> list[float]:
    """Train ``config.epochs`` epochs of ``samples`` pairs; seconds of each call of ``train_one_epoch``.

    ``model`` is an open_clip configuration, ``config`` a TrainConfig.
    """
    training: Any = importlib.import_module("open_clip_train.main")  # imports webdataset
    seconds: list[float] = []
    plain = training.train_one_epoch

    def timed(*arguments: Any, **named: Any) -> None:
        started = time.perf_counter()
        plain(*arguments, **named)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as logs:
        (Path(logs) / f"{NAME}.json").write_text(json.dumps(model))
        open_clip.add_model_config(Path(logs) / f"{NAME}.json")
        options = {
            "model": NAME,
            "train-data": f"{shards}/{{00000..{len(list(shards.glob('*.tar'))) - 1:05d}}}.tar",
            "train-num-samples": samples,
            "dataset-type": "webdataset",
            "batch-size": config.batch_size,
            "epochs": config.epochs,
            "workers": config.num_workers,
            "precision": PRECISION[config.precision],
            "lr": config.lr,
            "wd": config.weight_decay,
            "beta2": config.beta2,
            "eps": config.epsilon,
            "warmup": samples // config.batch_size,
            "device": device.type,
            "zeroshot-frequency": 0,
            "save-frequency": 0,
            "logs": logs,
        }
        training.train_one_epoch = timed
        try:
            with contextlib.redirect_stdout(sys.stderr):
                training.main([word for key, value in options.items() for word in (f"--{key}", str(value))])
        finally:
            training.train_one_epoch = plain
            logging.getLogger().handlers.clear()  # its own, which write into the folder that is gone
    return seconds
