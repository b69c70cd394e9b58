"""Loads an exported model as a stranger does, without any code of ours, and leaves its features.

Run as a text by another Python (``check``): FORM FOLDER WORK, where WORK holds ``0.png``, ``1.png``, … and
``captions.json``; it gets ``features.npz``.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


def open_clip_features(folder: str, images: Sequence[Image.Image], captions: list[str]) -> dict[str, Any]:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", require_pretrained=True)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    pixels = torch.stack([preprocess(image) for image in images])
    return {"images": model.encode_image(pixels), "texts": model.encode_text(tokenizer(captions))}


def timm_features(folder: str, images: Sequence[Image.Image], captions: list[str]) -> dict[str, Any]:
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    return {"images": model(torch.stack([transform(image) for image in images]))}


def main(form: str, folder: str, work: Path) -> None:
    images = [Image.open(path) for path in sorted(work.glob("*.png"))]
    captions = json.loads((work / "captions.json").read_text(encoding="utf-8"))
    with torch.inference_mode():
        features = {"open_clip": open_clip_features, "timm": timm_features}[form](folder, images, captions)
    np.savez(work / "features.npz", **{name: values.numpy() for name, values in features.items()})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
