"""What two cuts of a pool into batches mark alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import clip_grid, moco_grid

from benchmark import sweep
from perf import resolution

SCAN = {"redundant_share": 0.3, "ill_matched_share": 0.3}
SCALE = torch.tensor(20.0)


def features(noise: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions on the circle of ``noise`` about their images: float32 [N, 16] twice, of length 1."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(len(noise), 16, generator=generator)
    texts = images + noise[:, None] * torch.randn(len(noise), 16, generator=generator)
    return torch.nn.functional.normalize(images, dim=1), torch.nn.functional.normalize(texts, dim=1)


def test_pairs_that_do_not_match_are_found_in_any_company_and_larger_batches_agree_more() -> None:
    noise = torch.linspace(0.1, 3.0, 1024)
    small, large = (resolution.measure(*features(noise), SCALE, size, SCAN) for size in (16, 512))
    for kind in ("redundant", "ill_matched"):
        assert 0.24 < small.at_random[kind] < 0.31
        assert small.at_random[kind] + 0.1 < small.agreement[kind] < large.agreement[kind]
    assert large.agreement["ill_matched"] > 0.85
    assert small.correlation < large.correlation
    assert large.opposite <= small.opposite < small.at_random["ill_matched"]


def test_one_batch_of_all_samples_marks_the_same_ones_every_time_but_for_the_top_up() -> None:
    options = {**SCAN, "combine": "intersection"}
    found = resolution.measure(*features(torch.linspace(0.1, 3.0, 128)), SCALE, 128, options, cuts=2)
    assert found.agreement == {"redundant": 1.0, "ill_matched": 1.0}
    assert found.correlation == pytest.approx(1.0)
    assert found.opposite == 0.0


def test_one_kind_alone_can_be_measured() -> None:
    options = {"mode": "redundant", "redundant_share": 0.5}
    found = resolution.measure(*features(torch.linspace(0.1, 3.0, 128)), SCALE, 32, options, cuts=2)
    assert set(found.agreement) == {"redundant"}
    assert "redundant again" in resolution.table([found])[0]


@pytest.mark.parametrize("size", [1, 129])
def test_a_batch_that_no_cut_can_have_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"batch size {size}: must lie between 2 and the 128 samples"):
        resolution.measure(*features(torch.ones(128)), SCALE, size, SCAN)


@pytest.mark.slow
def test_the_command_reads_a_finished_clip_run_and_no_other(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}), moco_grid(train={"epochs": 1}))
    results = path.parent / "results"
    assert sweep.main([str(path), "--results", str(results), "--cluster", "inline"]) == 0
    capsys.readouterr()
    (clip,), (moco,) = (list(results.glob(f"tiny/{framework}-*")) for framework in ("clip", "moco"))
    assert resolution.main([str(clip), "--batch-sizes", "8", "32"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("| batch | redundant again (chance) |")
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| 8", "| 32"]
    assert resolution.main([str(moco)]) == 2
    assert "not a CLIP run" in capsys.readouterr().err
    assert resolution.main([str(clip), "--cuts", "1"]) == 2
    assert "--cuts must be at least 2" in capsys.readouterr().err
