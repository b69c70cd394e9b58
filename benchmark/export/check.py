"""Whether what was exported gives the run's own features: loaded back by another process that has no code of ours.

Letters in shapes: n images or captions, d feature width.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.export.refusal import CannotExport
from benchmark.models.encoder import Encoder
from benchmark.seeds import generator

TOLERANCE = 5e-3
"""Of how far features lie apart: rounding differs by a thousandth of it at most, another resizing by tenths."""
CAPTIONS = [
    "a photo of a large red circle",
    "Café «Zürich», 25 °C &amp; snow ☃",
    "a caption that is longer than any context " * 20,
    "",
]
SCRIPT = (Path(__file__).parent / "load_back.py").read_text(encoding="utf-8")


SIZES = [(288, 192), (103, 385), (96, 96), (512, 512), (9, 7)]
"""Width and height of the images, in pixels."""


def pictures() -> list[Image.Image]:
    """RGB images with coarse and fine structure, wide, high, square and small."""
    made = []
    for number, size in enumerate(SIZES):
        draws = generator(0, "export", number)
        coarse = Image.fromarray(draws.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(size)
        fine = draws.integers(-30, 31, (size[1], size[0], 3))
        made.append(Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8)))
    return made


def difference(form: str, folder: Path, encoder: Encoder) -> float:
    """Load the model in ``folder``; the largest distance of its features from the encoder's, as ``apart`` has it.

    Raises CannotExport if the form's library cannot load it, or gives other features.
    """
    images = pictures()
    with tempfile.TemporaryDirectory() as work:
        for number, image in enumerate(images):
            image.save(Path(work) / f"{number}.png")
        (Path(work) / "captions.json").write_text(json.dumps(CAPTIONS), encoding="utf-8")
        words = [sys.executable, "-c", SCRIPT, form, str(folder.absolute()), work]
        done = subprocess.run(words, cwd=work, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise CannotExport(f"{form} cannot load it: {last}")
        with np.load(Path(work) / "features.npz", allow_pickle=False) as found:
            pairs = [(found["images"], encoder.encode_images(images))]
            if "texts" in found:
                pairs.append((found["texts"], encoder.encode_texts(CAPTIONS)))
    largest = max(apart(theirs, ours) for theirs, ours in pairs)
    if not largest <= TOLERANCE:
        raise CannotExport(f"{form} loads it and gives other features: {largest:.2g} of their spread apart")
    return largest


def apart(theirs: np.ndarray, ours: np.ndarray) -> float:
    """The largest distance between rows of two arrays [n, d], relative to the spread of the second's: the mean
    distance of its rows from their mean, which tells an error from what all features share."""
    if theirs.shape != ours.shape:
        return float("inf")
    spread = np.linalg.norm(ours - ours.mean(axis=0), axis=1).mean()
    return float(np.linalg.norm(theirs - ours, axis=1).max() / max(spread, np.finfo(np.float32).tiny))
