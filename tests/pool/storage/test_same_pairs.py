"""300 pairs in every form are the same pool: ids, captions, pixels, and what a training makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_files import FORMS, make_pairs
from tiny import TINY_CLIP, clip_grid

from benchmark.config.run import as_choice
from benchmark.job import process
from benchmark.models.frameworks import make_objective, resolve_model
from benchmark.models.objective import Objective
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import Pool, PoolError
from benchmark.pool.source import make_source
from benchmark.pool.storage.format import span, starts_of
from benchmark.pool.storage.shards import ShardPool
from benchmark.runs.record import read_record
from benchmark.training.loader import Loader

PAIRS = make_pairs(300)
Pools = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Pools:
    """Form -> the pool as in a sweep file."""
    return {form: write(tmp_path_factory.mktemp("pairs"), PAIRS) for form, write in FORMS.items()}


def opened(pool: dict[str, Any], **options: Any) -> ShardPool:
    ((name, told),) = pool.items()
    source = make_source(as_choice({name: {**told, **options}}, "pool"), "pool")
    source.check_pool()
    found = source.training_pool()
    assert isinstance(found, ShardPool)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_ids_captions_and_pixels_are_the_same(pools: Pools, form: str) -> None:
    whole, pool = opened(pools["tar"]), opened(pools[form])
    assert (pool.num_samples, pool.skipped) == (300, {})
    for i in range(300):
        sample, due = pool.read(i), whole.read(i)
        assert (sample.caption, pool.caption(i), sample.further) == (due.caption, due.caption, ())
        assert np.array_equal(sample.image, due.image)
        assert pool.read_bytes(i)[0] == PAIRS[i][0]


def losses(pool: Pool, objective: Objective) -> list[list[float]]:
    """Of each sample, step by step, in an epoch that leaves samples out; the model is then as it was."""
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    optimizer = torch.optim.SGD(objective.parameters(), 0.1)
    loader = Loader(pool, objective.transform, batch_size=50, seed=0)
    found = []
    for batch in loader.epoch(0, np.arange(300) % 3 > 0)[1]:
        loss = objective(batch.tensors)
        found.append(loss.mean(dim=1).tolist())
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    objective.load_state_dict(before)
    return found


@pytest.mark.slow
def test_losses_are_the_same(pools: Pools) -> None:
    model = make_objective("clip", resolve_model("clip", as_choice(TINY_CLIP, "model"), "model"), seed=0)
    due = losses(opened(pools["tar"]), model)
    assert len(due) == 4
    assert due[0] != due[1]
    for form in FORMS:
        assert losses(opened(pools[form]), model) == due, form


@pytest.mark.slow
def test_a_run_of_a_sweep_is_the_same(pools: Pools, planned: Callable[..., list[PlannedRun]]) -> None:
    forms = [pools["tar"], pools["parquet"]]
    runs = planned(clip_grid(pool=forms, pruner="scan", train={"epochs": 2, "batch_size": 50}))
    for run in runs:
        process.run(run.folder)
    records = [read_record(run.folder / "record.json") for run in runs]
    assert records[0]["weights"] == records[1]["weights"]
    assert records[0]["pool_facts"]["fingerprint"] != records[1]["pool_facts"]["fingerprint"]


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("window", [0, 2])
def test_an_epoch_is_the_same_for_any_ranks_and_workers(pools: Pools, form: str, window: int) -> None:
    pool = opened(pools[form])

    def epoch(world: int, workers: int) -> Iterator[tuple[list[int], list[str]]]:
        loaders = [
            Loader(pool, lambda s: (s.caption.encode(),), batch_size=60, seed=0, rank=rank, world=world, **told)
            for rank in range(world)
            for told in [{"num_workers": workers, "window": window}]
        ]
        steps = [loader.epoch(1, np.ones(300, dtype=bool))[1] for loader in loaders]
        for parts in zip(*steps, strict=True):
            texts = [text.decode() for part in parts for text in part.tensors[0]]
            yield [i for part in parts for i in part.ids.tolist()], texts
        for loader in loaders:
            loader.close()

    one = list(epoch(1, 0))
    assert [text for _, texts in one for text in texts] == [PAIRS[i][1] for ids, _ in one for i in ids]
    assert list(epoch(2, 0)) == one
    if not window:
        assert list(epoch(1, 2)) == one


@pytest.mark.parametrize("form", [form for form in FORMS if form != "coco"])
def test_copies_on_the_machine_serve_what_lies_in_its_place(
    pools: Pools, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = opened(pools[form], cache_gb=1, cache_folder=str(tmp_path))
    assert pool.cache is not None
    for want in pool._wants(np.arange(300)):
        assert pool.cache.copy(want, lambda _key: 0.0)
    monkeypatch.setattr(pool.reader, "read", lambda *_: pytest.fail("it is read in its place"))
    assert [pool.read_bytes(i)[0] for i in range(300)] == [image for image, _ in PAIRS]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1200), min_size=1, max_size=6), st.data())
def test_any_range_of_values_is_that_of_all_of_them_in_a_row(lengths: list[int], data: st.DataObject) -> None:
    values = [bytes([65 + i]) * length for i, length in enumerate(lengths)]
    row = b"".join(value + bytes(-len(value) % 512) for value in values)
    start = data.draw(st.integers(0, len(row)))
    length = data.draw(st.integers(0, len(row) - start))
    starts = starts_of(np.array(lengths, dtype=np.int64))
    assert span(starts, values.__getitem__, start, length) == row[start : start + length]


def test_an_index_is_of_the_options_that_it_was_made_with(pools: Pools) -> None:
    told = pools["tar"]["webdataset"]
    plain, several = opened(pools["tar"]), opened(pools["tar"], captions="all")
    assert plain.index.path != several.index.path
    assert opened(pools["tar"]).fingerprint == plain.fingerprint
    index = {"webdataset": {**told, "shards": str(several.index.path)}}
    with pytest.raises(PoolError, match=r"is an index of .*all.*, not of tar shards"):
        opened(index)
    assert opened(index, captions="all").fingerprint == several.fingerprint
