"""A CLIP model as open_clip reads it from a folder or a hub: configuration, preprocessing, weights."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip

from benchmark.config.run import Choice
from benchmark.export.refusal import CannotExport
from benchmark.export.timm_files import check_known
from benchmark.files import write_text
from benchmark.models.clip.objective import Clip, config_of
from benchmark.models.objective import Objective
from benchmark.models.weights_file import save_weights

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def write(model: Objective, choice: Choice, folder: Path) -> None:
    """Leave open_clip's files in ``folder``. Raises CannotExport for a model that open_clip does not build."""
    if not isinstance(model, Clip):
        raise CannotExport("MoCo v3 has no tower for texts, which every model of open_clip's has")
    config = config_of(choice)
    check_known(config["vision_cfg"].get("timm_model_name"))
    config["text_cfg"].pop("tokenizer_kwargs", None)  # a run's captions went through the plain tokenizer
    preprocessing = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    told = {"model_cfg": config, "preprocess_cfg": preprocessing}
    write_text(folder / CONFIG, json.dumps(told, indent=2) + "\n")
    save_weights(folder / WEIGHTS, model.model)
