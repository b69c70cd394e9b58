"""The shapes pool: determinism, planted faults, held-out combinations, disjoint splits."""

import hashlib
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.sources._captions import caption
from benchmark.pool.sources._draw import mask
from benchmark.pool.sources._scenes import COLOURS, HELD_OUT, SHAPES, TEXTURES, TRAINING, draw_scene
from benchmark.pool.sources.shapes import VERSION, Shapes, ShapesPool

ROOT = Path(__file__).parents[3]
NAMED = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")


def combinations_in(text: str) -> set[tuple[str, str]]:
    return set(NAMED.findall(text))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def hashes(images: Iterable[Image.Image]) -> list[str]:
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def digest(pool: ShapesPool, count: int) -> str:
    content = hashlib.sha256()
    for sample_id in range(count):
        sample = pool.read(sample_id)
        content.update(sample.image.tobytes() + sample.caption.encode())
    return content.hexdigest()[:16]


@pytest.fixture(scope="module")
def pool() -> ShapesPool:
    return Shapes(num_samples=1000).training_pool()


def test_content_is_that_of_this_version() -> None:
    # a change here must come with a higher VERSION: otherwise two contents share a fingerprint
    golden = "a1b5b412a122a4c0"
    assert (VERSION, digest(Shapes().training_pool(), 200)) == (1, golden)


def test_a_sample_is_the_same_whenever_it_is_read_and_after_pickling(pool: ShapesPool) -> None:
    forward = digest(pool, 50)
    for sample_id in reversed(range(50)):
        pool.read(sample_id)
    assert digest(pool, 50) == forward == digest(pickle.loads(pickle.dumps(pool)), 50)  # noqa: S301


def test_another_process_reads_the_same_samples(pool: ShapesPool) -> None:
    code = (
        "from tests.pool.sources.test_shapes import digest; from benchmark.pool.sources.shapes import Shapes;"
        "print(digest(Shapes(num_samples=1000).training_pool(), 50))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == digest(pool, 50)


def test_no_global_random_state_is_touched(pool: ShapesPool) -> None:
    before = random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[index]  # noqa: NPY002
    pool.read(0)
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before  # type: ignore[index]  # noqa: NPY002


def test_images_are_rgb_of_the_asked_size() -> None:
    for size in (16, 32, 48, 224):
        image = Shapes(num_samples=2, image_size=size).training_pool().read(0).image
        assert (image.mode, image.size) == ("RGB", (size, size))


def test_seed_changes_the_content() -> None:
    one, other = Shapes(seed=0).training_pool(), Shapes(seed=1).training_pool()
    assert one.fingerprint != other.fingerprint
    assert digest(one, 5) != digest(other, 5)


@pytest.mark.parametrize(("num_samples", "copies", "ill"), [(1000, 0.1, 0.1), (37, 0.5, 0.5), (500, 0.0, 0.3)])
def test_planted_shares_are_exact_and_the_faults_do_not_overlap(
    num_samples: int, copies: float, ill: float
) -> None:
    truth = Shapes(num_samples=num_samples, near_duplicates=copies, ill_matched=ill).training_pool().truth
    assert all(flags.shape == (num_samples,) for flags in truth.values())
    assert truth["near_duplicate"].sum() == round(copies * num_samples)
    assert truth["ill_matched"].sum() == min(round(ill * num_samples), num_samples - round(copies * num_samples))
    assert not (truth["near_duplicate"] & truth["ill_matched"]).any()


def test_faults_are_spread_over_the_ids_and_copies_may_come_first(pool: ShapesPool) -> None:
    for flags in (pool.truth["near_duplicate"], pool.truth["ill_matched"]):
        assert 30 <= flags[:500].sum() <= 70
    copies = np.flatnonzero(pool.original_of >= 0)
    share_before = (copies < pool.original_of[copies]).mean()
    assert 0.3 < share_before < 0.7


def test_copies_are_near_their_original_and_of_the_same_content(pool: ShapesPool) -> None:
    images = np.stack([pixels(pool.read(i).image) for i in range(pool.num_samples)])
    copies = np.flatnonzero(pool.truth["near_duplicate"])
    found = 0
    for copy in copies:
        original = pool.original_of[copy]
        assert not pool.truth["near_duplicate"][original]
        assert not pool.truth["ill_matched"][original]
        assert pool.describe(copy)[0].content == pool.describe(original)[0].content
        distance = np.abs(images - images[copy]).mean(axis=(1, 2, 3))
        assert distance[original] > 0
        family = (pool.original_of == original) | (np.arange(pool.num_samples) == original)
        distance[copy] = np.inf
        found += bool(family[distance.argmin()])
    assert found >= 0.95 * len(copies)


def test_some_copies_keep_the_caption_and_some_are_reworded(pool: ShapesPool) -> None:
    copies = np.flatnonzero(pool.truth["near_duplicate"])
    kept = np.mean([pool.read(i).caption == pool.read(int(pool.original_of[i])).caption for i in copies])
    assert 0.3 < kept < 0.8


def test_an_ill_matched_caption_is_true_of_another_sample_and_names_nothing_that_is_shown(
    pool: ShapesPool,
) -> None:
    fitting = {pool.describe(i)[1] for i in range(pool.num_samples)}
    for sample_id in np.flatnonzero(pool.truth["ill_matched"]):
        text = pool.read(sample_id).caption
        assert text in fitting
        assert not combinations_in(text) & pool.describe(sample_id)[0].content


def test_every_other_caption_names_exactly_what_is_shown(pool: ShapesPool) -> None:
    for sample_id in np.flatnonzero(~pool.truth["ill_matched"]):
        assert combinations_in(pool.read(sample_id).caption) == pool.describe(sample_id)[0].content


def test_training_pool_holds_no_held_out_combination(pool: ShapesPool) -> None:
    for sample_id in range(pool.num_samples):
        assert not pool.describe(sample_id)[0].content & set(HELD_OUT)
        assert not combinations_in(pool.read(sample_id).caption) & set(HELD_OUT)


def test_every_colour_and_shape_is_trained_and_held_out_alike() -> None:
    for part, values in ((0, tuple(COLOURS)), (1, SHAPES)):
        for value in values:
            assert sum(c[part] == value for c in HELD_OUT) == 3
            assert sum(c[part] == value for c in TRAINING) == 5


def test_splits_and_pairs_share_no_image_with_each_other_or_the_pool(pool: ShapesPool) -> None:
    source = Shapes(num_samples=1000)
    groups = [
        hashes(source.labelled("train").images),
        hashes(source.labelled("test").images),
        hashes(source.pairs().images),
        hashes(pool.read(i).image for i in range(pool.num_samples)),
    ]
    merged = [value for group in groups for value in group]
    assert len(set(merged)) == len(merged)


def test_labelled_splits_are_balanced_over_the_held_out_combinations() -> None:
    source = Shapes()
    train, test = source.labelled("train"), source.labelled("test")
    assert train.class_names == test.class_names == [f"{c} {s}" for c, s in HELD_OUT]
    assert len(test.images) >= 1000
    for split in (train, test):
        assert split.labels.dtype == np.int64
        assert len(split.images) == len(split.labels)
        assert len(set(np.bincount(split.labels))) == 1
    with pytest.raises(PoolError, match="no split 'val'"):
        source.labelled("val")


def test_prompts_have_the_right_article() -> None:
    templates = Shapes().labelled("test").templates
    assert len({template("red circle") for template in templates}) == len(templates) >= 5
    assert all(re.search(r"\ba red circle$", template("red circle")) for template in templates)
    assert all(re.search(r"\ban orange star$", template("orange star")) for template in templates)


def test_pairs_are_unique_in_caption_and_content() -> None:
    pairs = Shapes().pairs()
    assert len(pairs.images) == len(pairs.captions) == len(set(pairs.captions)) >= 500
    assert pairs.image_of_caption.tolist() == list(range(len(pairs.images)))
    contents = [frozenset(combinations_in(text)) for text in pairs.captions]
    assert len(set(contents)) == len(contents)
    assert not any(content & set(HELD_OUT) for content in contents[::2])
    assert any(content & set(HELD_OUT) for content in contents[1::2])


def test_evaluation_sets_do_not_depend_on_the_pool() -> None:
    one, other = Shapes(), Shapes(num_samples=64, near_duplicates=0.5, ill_matched=0.0)
    assert one.labelled("test").name == other.labelled("test").name == "shapes"
    assert hashes(one.pairs().images) == hashes(other.pairs().images)


def test_every_mask_is_drawn_and_differs_from_the_others() -> None:
    for side in range(10, 23):
        seen = {}
        for shape in SHAPES:
            for texture in TEXTURES:
                opacity = mask(shape, side, texture, 1)
                assert opacity.min() >= 0
                assert 100 < opacity.max() <= 128
                assert opacity.mean() > 12
                seen[opacity.tobytes()] = (shape, texture)
        assert len(seen) == len(SHAPES) * len(TEXTURES)


def test_objects_lie_inside_and_do_not_overlap() -> None:
    rng = Random(0)
    for _ in range(500):
        things = draw_scene(rng, TRAINING).things
        for i, a in enumerate(things):
            assert min(a.x, a.y) - a.side / 2 >= 0
            assert max(a.x, a.y) + a.side / 2 <= 32
            for b in things[i + 1 :]:
                assert max(abs(a.x - b.x), abs(a.y - b.y)) >= (a.side + b.side) / 2 - 1


def test_captions_vary_and_stay_short() -> None:
    rng = Random(0)
    scene = draw_scene(rng, TRAINING, counts=[2])
    assert len({caption(scene, rng) for _ in range(100)}) > 50
    assert max(len(caption(draw_scene(rng, TRAINING), rng).split()) for _ in range(3000)) <= 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"near_duplicates": 1.5}, "near_duplicates must be in"),
        ({"near_duplicates": -0.1}, "near_duplicates must be in"),
        ({"ill_matched": 1.2}, "ill_matched must be in"),
        ({"near_duplicates": 0.6, "ill_matched": 0.6}, "at most 1"),
        ({"image_size": 4}, "image_size must be in"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"num_sample": 5}, "did you mean 'num_samples'"),
    ],
)
def test_wrong_options_fail_before_any_data_is_read(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_source(Choice(name="shapes", options=options), "pool")


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, "shapes"),
        ({"num_samples": 8192}, "shapes-8192"),
        ({"seed": 3, "image_size": 64}, "shapes-seed3-64px"),
        ({"near_duplicates": 0.2, "ill_matched": 0.0}, "shapes-dup0.2-ill0"),
    ],
)
def test_label_tells_what_differs_from_the_default(options: dict[str, float], label: str) -> None:
    assert make_source(Choice(name="shapes", options=options), "pool").label == label


def test_tiny_pools_can_be_read() -> None:
    for num_samples in (1, 2, 3, 5):
        options = Shapes(num_samples=num_samples, near_duplicates=0.5, ill_matched=0.0)
        pool = options.training_pool()
        assert all(pool.read(i).caption for i in range(num_samples))
    with pytest.raises(PoolError, match="samples 0 to 4, not 5"):
        pool.read(5)
    assert pool.key(4) == "shapes-000004"
