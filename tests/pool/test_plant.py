"""Faults planted in any pool: known to the report, seen by no method but the control that says so."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import clip_grid, moco_grid

from benchmark.config.run import Choice, RunConfig
from benchmark.job import process
from benchmark.options import ConfigError
from benchmark.pool.plant import Plant, PlantedPool
from benchmark.pool.samples import Pool, PoolError, PoolView, Sample
from benchmark.pool.source import make_source
from benchmark.pruner import make_pruner
from benchmark.runs.folder import RECORD_FILE
from benchmark.runs.record import read_record


class Numbered(Pool):
    """Every image and caption tells its id; ``captions`` takes the place of the captions."""

    def __init__(self, num_samples: int, captions: Sequence[str] = ()) -> None:
        self.num_samples, self.captions = num_samples, captions
        self.fingerprint = f"numbered-{num_samples}"

    def read(self, sample_id: int) -> Sample:
        text = self.captions[sample_id] if self.captions else f"caption {sample_id}"
        across = np.linspace(0, 200, 20) + sample_id % 50  # a smooth picture: a slight change stays slight
        pixels = np.broadcast_to(across[None, :, None], (10, 20, 3))
        return Sample(Image.fromarray(pixels.astype(np.uint8)), text)

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray]:
        return ["even", "odd"], np.arange(self.num_samples) % 2

    @property
    def truth(self) -> Mapping[str, np.ndarray]:
        return {}


shares = st.floats(0, 0.5)


@settings(deadline=None)
@given(st.integers(8, 200), shares, shares, st.integers(0, 3))
def test_as_many_are_planted_as_were_asked_for_and_none_has_both(
    count: int, swapped: float, copies: float, seed: int
) -> None:
    num_copies = round(copies * count)
    num_swapped = min(round(swapped * count), count - num_copies)  # both may be half of an odd count
    if num_swapped < 2 or not copies:
        return
    pool = PlantedPool(Numbered(count), Plant(swapped_captions=swapped, near_duplicates=copies, seed=seed))
    truth = pool.truth
    assert truth["ill_matched"].sum() == num_swapped
    assert truth["near_duplicate"].sum() == num_copies
    assert not (truth["ill_matched"] & truth["near_duplicate"]).any()
    for i in range(count):
        own = pool.read(i).caption == f"caption {i}"
        assert own == (not truth["ill_matched"][i] and not truth["near_duplicate"][i])


def test_swapped_captions_stay_in_the_pool_and_images_stay_where_they_are() -> None:
    below = Numbered(100)
    pool = PlantedPool(below, Plant(swapped_captions=0.3))
    assert sorted(pool.read(i).caption for i in range(100)) == sorted(below.read(i).caption for i in range(100))
    assert all(pool.read(i).image.tobytes() == below.read(i).image.tobytes() for i in range(100))


def test_a_swapped_caption_has_other_words_than_the_sample_s_own() -> None:
    captions = ["an icon"] * 30 + ["a drawing"] * 30
    pool = PlantedPool(Numbered(60, captions), Plant(swapped_captions=0.5))
    for i in np.flatnonzero(pool.truth["ill_matched"]):
        assert pool.read(int(i)).caption != captions[i]
    same = PlantedPool(Numbered(60, ["the same"] * 60), Plant(swapped_captions=0.5))
    with pytest.raises(PoolError, match="no other sample of the 30 has another caption than 'the same'"):
        same.read(int(same.swapped[0]))


def test_a_copy_looks_like_its_original_and_has_its_caption_class_and_name() -> None:
    pool = PlantedPool(Numbered(200), Plant(near_duplicates=0.2))
    classes = pool.sample_classes
    assert classes is not None
    for copy in np.flatnonzero(pool.truth["near_duplicate"]).tolist():
        original = int(pool.original_of[copy])
        assert pool.read(copy).caption == f"caption {original}"
        assert pool.key(copy) == f"{original}+copy{copy}"
        assert classes[1][copy] == original % 2
        assert pool.truth["redundant_copy"][copy] == pool.truth["redundant_copy"][original]
        one, other = (np.asarray(pool.read(i).image, dtype=np.int64) for i in (copy, original))
        assert one.shape == other.shape
        assert 0 < np.abs(one - other).mean() < 25


def test_the_same_plant_gives_the_same_samples_in_every_process_and_another_seed_others() -> None:
    pool = PlantedPool(Numbered(50), Plant(swapped_captions=0.3, near_duplicates=0.2))
    again = pickle.loads(pickle.dumps(pool))  # noqa: S301 (our own)
    assert again.fingerprint == pool.fingerprint
    for i in range(50):
        assert pool.read(i).caption == again.read(i).caption
        assert pool.read(i).image.tobytes() == again.read(i).image.tobytes()
    other = PlantedPool(Numbered(50), Plant(swapped_captions=0.3, near_duplicates=0.2, seed=1))
    assert other.fingerprint not in (pool.fingerprint, Numbered(50).fingerprint)
    assert not np.array_equal(other.truth["ill_matched"], pool.truth["ill_matched"])


PLANTED = {"emoji_clipart": {"plant": {"swapped_captions": 0.3}}}


def source_of(node: dict[str, dict[str, Any]]) -> Any:
    ((name, options),) = node.items()
    return make_source(Choice(name=name, options=options), "pool")


def test_a_planted_pool_has_a_name_of_its_own_and_the_size_of_the_source() -> None:
    source = source_of(PLANTED)
    assert (source.label, source.expected_samples()) == ("emoji-clipart-swap0.3", 13192)
    both = source_of({"emoji": {"plant": {"swapped_captions": 0.1, "near_duplicates": 0.2, "seed": 4}}})
    assert both.label == "emoji-swap0.1-dup0.2-seed4"


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"emoji": {"plant": {"swaped_captions": 0.3}}}, "did you mean 'swapped_captions'"),
        ({"emoji": {"plant": {}}}, "above 0"),
        ({"emoji": {"plant": {"near_duplicates": 1.0}}}, r"near_duplicates must be in \[0, 1\)"),
        ({"shapes": {"plant": {"swapped_captions": 0.3}}}, "plants faults of its own"),
    ],
)
def test_a_plant_that_cannot_be_is_refused_by_name(pool: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        source_of(pool)


def test_nothing_is_planted_where_a_model_is_evaluated_nor_captions_where_none_are_read(planned: Any) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\[0\]\.retrieval\.dataset\.emoji\.plant"):
        planned(clip_grid(evaluate=[{"retrieval": {"dataset": {"emoji": {"plant": {"swapped_captions": 0.3}}}}}]))
    with pytest.raises(ConfigError, match=r"plant\.swapped_captions: needs captions, which moco"):
        planned(moco_grid(pool={"digits": {"plant": {"swapped_captions": 0.3}}}))


def test_a_planted_run_is_another_run_and_its_config_reads_back(planned: Any) -> None:
    (plain,) = planned(clip_grid(pool="emoji"))
    (run,) = planned(clip_grid(pool={"emoji": {"plant": {"swapped_captions": 0.3}}}))
    assert run.config.identity != plain.config.identity
    assert run.config.pool_label == "emoji-swap0.3"
    assert RunConfig.load(run.folder / "config.yaml") == run.config
    assert make_source(run.config.pool, "pool") == make_source(
        Choice(name="emoji", options={"plant": {"swapped_captions": 0.3}}), "pool"
    )


@pytest.mark.slow
def test_the_oracle_keeps_what_is_clean_and_its_record_tells_what_it_found(planned: Any) -> None:
    (run,) = planned(moco_grid(pruner="clean_oracle", pool={"digits": {"plant": {"near_duplicates": 0.25}}}))
    assert run.config.method == "clean_oracle (sees planted truth)"
    assert process.run(run.folder) == "done"
    record = read_record(run.folder / RECORD_FILE)
    assert record["family"] == "static"
    copies = next(row for row in record["pruning_truth"] if row["flag"] == "near_duplicate")
    assert (copies["precision"], copies["recall"]) == (1, 1)


def test_only_the_oracle_sees_the_truth_and_only_where_there_is_some(planned: Any) -> None:
    pool = PlantedPool(Numbered(20), Plant(swapped_captions=0.3))
    assert pool.view().truth == {}
    assert not make_pruner(Choice(name="scan"), "").uses_truth
    with pytest.raises(ConfigError, match=r"clean_oracle: leaves out planted samples, and emoji has none"):
        planned(clip_grid(pool="emoji", pruner="clean_oracle"))
    oracle = make_pruner(Choice(name="clean_oracle"), "")
    oracle.setup(PoolView(20, "f"), num_epochs=1, seed=0)
    with pytest.raises(ValueError, match="give it a plant"):
        oracle.plan(0)
    oracle.setup(pool.view(with_truth=True), num_epochs=1, seed=0)
    assert np.array_equal(oracle.plan(0).keep, ~pool.truth["ill_matched"])


def test_planting_leaves_the_source_s_own_pool_alone(tmp_path: Path) -> None:
    below = Numbered(30)
    assert PlantedPool(below, Plant(swapped_captions=0.3)).pool.fingerprint == below.fingerprint
