"""The code of docs/own_loop.md runs as it stands, and its loop on ranks trains on open_clip's own loss."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rank_processes import on_ranks

from benchmark import dist

PAGE = (Path(__file__).parents[2] / "docs" / "own_loop.md").read_text(encoding="utf-8")
EXTRAS = ("lightning", "transformers")


def blocks() -> dict[str, str]:
    """Each by what it first imports of methods and frameworks."""
    found = re.findall(r"```python[^\n]*\n(.*?)```", PAGE, flags=re.DOTALL)
    names = ["three lines", "a checkpoint", "open_clip", *EXTRAS, "super-batches", "no loader"]
    return dict(zip(names, found, strict=True))


def run(code: str) -> dict[str, Any]:
    here: dict[str, Any] = {"__name__": "__main__"}
    exec(code, here)  # the project's own page
    return here


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", blocks())
def test_a_block_of_the_page_runs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if name in EXTRAS:
        for package in {"lightning": ["lightning"], "transformers": ["transformers", "accelerate"]}[name]:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    here = run(blocks()[name])
    if "pruned" in here:
        assert here["pruned"].epoch == (1 if name == "super-batches" else here["pruned"].num_epochs)
    assert not list(tmp_path.iterdir()), "a block leaves files where it runs"


def test_the_open_clip_loop_trains_on_open_clips_own_loss() -> None:
    here = run(blocks()["open_clip"])
    model, images, texts = here["model"], here["images"], here["texts"]
    assert here["pruned"].method.plan(5).keep.sum() < 64, "the last epoch was to leave samples out"
    with torch.no_grad():
        features = model(images, texts)
        logits, labels = here["clip_loss"].get_logits(*features), torch.arange(len(images))
        losses = [torch.nn.functional.cross_entropy(x, labels, reduction="none") for x in logits]
    torch.testing.assert_close(torch.stack(losses, dim=1).mean(), here["clip_loss"](*features))


def test_the_open_clip_loop_on_two_ranks_holds_one_mask() -> None:
    def work(rank: int) -> dict[str, Any]:
        assert dist.world() == 2
        return run(blocks()["open_clip"])["pruned"].method.state_dict()  # type: ignore[no-any-return]

    first, second = on_ranks(2, work)
    assert isinstance(first, dict), first
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value, err_msg=key)
