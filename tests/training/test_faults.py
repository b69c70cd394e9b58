"""Unreadable samples in a run: counted, listed, limited."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from tiny import clip_grid

from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import PoolError, Sample, SampleError
from benchmark.pool.sources import shapes
from benchmark.runs.record import read_record
from benchmark.training.unreadable import FaultList

Plan = Callable[..., list[PlannedRun]]


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three samples of every shapes pool cannot be decoded."""
    original = shapes.ShapesPool.read

    def read(self: shapes.ShapesPool, sample_id: int) -> Sample:
        if sample_id in (3, 20, 41):
            raise SampleError("image_undecodable", f"sample {sample_id} ({self.key(sample_id)}): broken")
        return original(self, sample_id)

    monkeypatch.setattr(shapes.ShapesPool, "read", read)


@pytest.mark.usefixtures("damaged")
def test_faults_stand_in_the_record_by_reason_and_in_a_file_by_key(planned: Plan) -> None:
    (run,) = planned(clip_grid(train={"max_skipped": 0.1}))
    process.run(run.folder)
    record = read_record(run.folder / "record.json")
    assert record["pool_facts"]["skipped"] == {"image_undecodable": 3}
    assert record["training"]["samples_seen"] == 3 * 64
    lines = [json.loads(line) for line in (run.folder / "skipped.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [3, 20, 41]
    assert lines[0]["key"].startswith("shapes-")


@pytest.mark.usefixtures("damaged")
def test_beyond_max_skipped_the_run_stops_and_says_so(planned: Plan) -> None:
    (run,) = planned(clip_grid())
    with pytest.raises(
        PoolError, match=r"1 of 64 samples cannot be read, more than train.max_skipped 1.00%.*broken"
    ):
        process.run(run.folder)


@pytest.mark.parametrize(
    ("skipped", "shards", "unused"),
    [
        ({"image_missing": 1}, None, 1),
        ({"shard_damaged": 1}, [0, 16, 32, 48, 64], 16),  # it may have held as many as the others
        ({"shard_damaged": 1, "name_dotted": 2}, [0, 64], 66),
    ],
)
def test_what_never_became_a_sample_is_limited_likewise(
    skipped: dict[str, int], shards: list[int] | None, unused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = shapes.ShapesPool(shapes.Shapes(num_samples=64))
    FaultList(pool, 0.0)
    starts = None if shards is None else np.array(shards)
    monkeypatch.setattr(shapes.ShapesPool, "skipped", skipped, raising=False)
    monkeypatch.setattr(shapes.ShapesPool, "shard_starts", starts, raising=False)
    FaultList(pool, unused / (64 + unused))
    reason = next(iter(skipped))
    with pytest.raises(PoolError, match=rf"{unused} beside the pool's 64 samples .*train\.max_skipped.*{reason}"):
        FaultList(pool, unused / (64 + unused) - 1e-6)
