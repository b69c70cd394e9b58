"""Retrieval on cases counted by hand: several captions an image, several images a caption, ties, collapse."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_stubs import FixedSource, TableEncoder

from benchmark.evaluate import ranks
from benchmark.evaluate.infonce import infonce
from benchmark.evaluate.tasks.retrieval import KS, Retrieval
from benchmark.pool.source import PairSet


def unit_at(degrees: float) -> list[float]:
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))]


def test_one_of_five_captions_in_the_top_k_is_enough(evaluate) -> None:  # type: ignore[no-untyped-def]
    # image 0 at 0 degrees, image 1 at 90. Captions of image 0 at 80..84, of image 1 at 10, 60, 61, 62, 63:
    # image 0: nearest is 10 degrees (image 1's), then 60..63, then 80: its best stands at place 5
    # image 1: nearest is 84 degrees (image 0's), 83, ..., 80, then 63: its best stands at place 5
    angles = [80, 81, 82, 83, 84, 10, 60, 61, 62, 63]
    captions = [f"c{a}" for a in angles]
    source = FixedSource(captions=captions, image_of_caption=[0] * 5 + [1] * 5, num_images=2)
    encoder = TableEncoder(
        np.array([unit_at(0), unit_at(90)]), {c: unit_at(a) for c, a in zip(captions, angles, strict=True)}
    )
    found = evaluate(Retrieval, source, encoder)
    # text to image: 80..84 are nearer to 90 (wrong); 10 nearer to 0 (wrong); 60..63 nearer to 90 (right)
    assert {name: (row.value, row.n) for name, row in found.items() if "_r" in name} == {
        "image_to_text_r1": (0.0, 2),
        "image_to_text_r5": (0.0, 2),
        "text_to_image_r1": (0.4, 10),
    }
    encoder.texts["c80"] = unit_at(59)  # now at place 1 from image 0; image 1's best moves up to place 4
    found = evaluate(Retrieval, source, encoder)
    assert (found["image_to_text_r1"].value, found["image_to_text_r5"].value) == (0.0, 1.0)


def test_of_equal_captions_the_first_wins(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(captions=["same", "same", "other"], image_of_caption=[0, 1, 2], num_images=3)
    encoder = TableEncoder(
        np.array([unit_at(0), unit_at(5), unit_at(90)]), {"same": unit_at(1), "other": unit_at(90)}
    )
    found = evaluate(Retrieval, source, encoder)
    # image 1 finds image 0's equal caption before its own; caption 1 finds image 0, nearer than image 1
    assert found["image_to_text_r1"].value == pytest.approx(2 / 3)
    assert found["text_to_image_r1"].value == pytest.approx(2 / 3)


def test_k_of_at_least_the_number_of_candidates_is_left_out(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(
        captions=["a", "b", "c", "d", "e", "f"], image_of_caption=[0, 0, 0, 1, 1, 1], num_images=2
    )
    encoder = TableEncoder(np.ones((2, 2)), {c: [1.0, 1.0] for c in "abcdef"})
    assert sorted(evaluate(Retrieval, source, encoder)) == [
        "image_to_text_mrr",
        "image_to_text_r1",
        "image_to_text_r5",
        "text_to_image_mrr",
        "text_to_image_r1",
    ]


def test_an_image_without_captions_is_a_candidate_but_no_query(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(captions=["a", "b"], image_of_caption=[0, 2], num_images=3)
    encoder = TableEncoder(np.array([unit_at(0), unit_at(44), unit_at(90)]), {"a": unit_at(0), "b": unit_at(46)})
    found = evaluate(Retrieval, source, encoder)
    assert (found["image_to_text_r1"].value, found["image_to_text_r1"].n) == (1.0, 2)
    assert (found["text_to_image_r1"].value, found["text_to_image_r1"].n) == (0.5, 2)  # b finds image 1


@pytest.mark.parametrize("captions_per_image", [1, 5])
def test_a_collapsed_model_gets_no_more_than_chance(evaluate, captions_per_image: int) -> None:  # type: ignore[no-untyped-def]
    num_images = 50
    captions = [f"c{i}" for i in range(num_images * captions_per_image)]
    image_of_caption = [i // captions_per_image for i in range(len(captions))]
    source = FixedSource(captions=captions, image_of_caption=image_of_caption, num_images=num_images)
    row = [0.2, -0.4, 0.6, 0.1]
    found = evaluate(Retrieval, source, TableEncoder(np.tile(row, (num_images, 1)), dict.fromkeys(captions, row)))
    for k in KS:
        assert found[f"text_to_image_r{k}"].value == pytest.approx(k / num_images)
        assert 0 < found[f"image_to_text_r{k}"].value <= k / num_images


def test_the_two_directions_are_not_swapped(evaluate) -> None:  # type: ignore[no-untyped-def]
    # caption a at 40 and b at 70 degrees: both find image 1 at 60, but each image finds its own caption
    source = FixedSource(captions=["a", "b"], image_of_caption=[0, 1], num_images=2)
    encoder = TableEncoder(np.array([unit_at(0), unit_at(60)]), {"a": unit_at(40), "b": unit_at(70)})
    found = evaluate(Retrieval, source, encoder)
    assert (found["image_to_text_r1"].value, found["text_to_image_r1"].value) == (1.0, 0.5)


def test_agreement_with_a_naive_count(evaluate) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    images, texts = rng.standard_normal((30, 4)), rng.standard_normal((70, 4))
    image_of_caption = np.concatenate([np.arange(30), rng.integers(0, 30, size=40)])
    captions = [f"c{i}" for i in range(70)]
    source = FixedSource(captions=captions, image_of_caption=image_of_caption.tolist(), num_images=30)
    found = evaluate(Retrieval, source, TableEncoder(images, dict(zip(captions, texts, strict=True))))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    for k in KS:
        by_image = [(image_of_caption[np.argsort(-(texts @ images[i]))[:k]] == i).any() for i in range(30)]
        by_text = [image_of_caption[j] in np.argsort(-(images @ texts[j]))[:k] for j in range(70)]
        assert found[f"image_to_text_r{k}"].value == pytest.approx(np.mean(by_image))
        assert found[f"text_to_image_r{k}"].value == pytest.approx(np.mean(by_text))


def brute_force(cosines: np.ndarray, is_positive: np.ndarray, scale: float) -> tuple[float, float]:
    """Mean reciprocal rank, ties by index, and InfoNCE: the definitions, a query at a time."""
    reciprocal, loss = [], []
    for row, positive in zip(cosines, is_positive, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-round(float(row[j]), 6), j))
        reciprocal.append(1 / next(rank for rank, j in enumerate(order, start=1) if positive[j]))
        mass = np.exp(scale * row)
        loss.append(-math.log(mass[positive].sum() / mass.sum()))
    return float(np.mean(reciprocal)), float(np.mean(loss))


@pytest.mark.parametrize("are_grouped", [False, True])
@pytest.mark.parametrize("have_ties", [False, True])
def test_reciprocal_rank_and_infonce_are_those_of_the_definitions(  # type: ignore[no-untyped-def]
    evaluate, are_grouped: bool, have_ties: bool
) -> None:
    rng = np.random.default_rng(5)
    images, texts = rng.standard_normal((24, 3)), rng.standard_normal((40, 3))
    if have_ties:
        images, texts = np.sign(images), np.sign(texts)
    group = np.arange(24) // 2 if are_grouped else np.arange(24)
    image_of_caption = rng.integers(0, 20, size=40)  # several captions an image, and images without one
    names = [f"c{i}" for i in range(40)]
    source = FixedSource(
        captions=names,
        image_of_caption=image_of_caption.tolist(),
        num_images=24,
        image_group=group.tolist() if are_grouped else None,
    )
    encoder = TableEncoder(images, dict(zip(names, texts, strict=True)), logit_scale=20.0)
    found = evaluate(Retrieval, source, encoder)
    cosines = images @ texts.T / np.outer(np.linalg.norm(images, axis=1), np.linalg.norm(texts, axis=1))
    belongs = group[:, None] == group[image_of_caption]
    asked = belongs.any(1)
    for direction, expected in (
        ("image_to_text", brute_force(cosines[asked], belongs[asked], 20.0)),
        ("text_to_image", brute_force(cosines.T, belongs.T, 20.0)),
    ):
        rows = found[f"{direction}_mrr"], found[f"{direction}_infonce"]
        assert [row.value for row in rows] == pytest.approx(expected, rel=1e-6)
        assert {row.n for row in rows} == {asked.sum() if direction == "image_to_text" else 40}
        mrr, loss = rows
        assert np.mean(1 / (mrr.items + 1)) == mrr.value
        assert np.mean(loss.items) == loss.value
        assert loss.ci95[1] - loss.value == pytest.approx(1.96 * loss.items.std(ddof=1) / loss.n**0.5, rel=1e-4)


def test_a_random_model_has_the_logarithm_of_the_number_of_candidates_as_infonce(evaluate) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(6)
    names = [f"c{i}" for i in range(200)]
    source = FixedSource(captions=names, image_of_caption=list(range(200)), num_images=200)
    texts = dict(zip(names, rng.standard_normal((200, 64)), strict=True))
    found = evaluate(Retrieval, source, TableEncoder(rng.standard_normal((200, 64)), texts, logit_scale=1.0))
    for direction in ("image_to_text", "text_to_image"):
        assert found[f"{direction}_infonce"].value == pytest.approx(math.log(200), abs=0.05)


def test_a_model_without_a_temperature_has_no_infonce(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(captions=["a", "b"], image_of_caption=[0, 1], num_images=2)
    found = evaluate(Retrieval, source, TableEncoder(np.eye(2), {"a": [1.0, 0.0], "b": [0.0, 1.0]}))
    assert found["image_to_text_mrr"].value == 1.0
    assert not [name for name in found if "infonce" in name]


def test_either_image_of_a_group_is_a_hit_and_both_ask_for_its_caption(evaluate) -> None:  # type: ignore[no-untyped-def]
    # a is nearest to image 1 and b to image 2, while their own first images 0 and 3 are far off
    angles = {"a": unit_at(0), "b": unit_at(90)}
    images = np.array([unit_at(180), unit_at(1), unit_at(89), unit_at(-90)])
    sources = [
        FixedSource(captions=["a", "b"], image_of_caption=[0, 3], num_images=4, image_group=group)
        for group in ([0, 0, 1, 1], None)
    ]
    grouped, alone = (evaluate(Retrieval, source, TableEncoder(images, angles)) for source in sources)
    assert (grouped["text_to_image_r1"].value, grouped["text_to_image_r1"].n) == (1.0, 2)
    assert (grouped["image_to_text_r1"].value, grouped["image_to_text_r1"].n) == (0.5, 4)
    assert (alone["text_to_image_r1"].value, alone["image_to_text_r1"].n) == (0.0, 2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(1, 300), columns=st.integers(1, 30))
def test_blocks_do_not_change_infonce(seed: int, most: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    queries, candidates = rng.standard_normal((13, 4)), rng.standard_normal((29, 4))
    sides = queries.astype(np.float32), candidates.astype(np.float32), rng.integers(0, 9, 13), np.arange(29) % 9
    whole = infonce(*sides, 100.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "COLUMNS_AT_ONCE", columns)
        assert infonce(*sides, 100.0, most) == pytest.approx(whole, rel=1e-12, abs=1e-12)


def test_the_groups_of_images_are_part_of_a_fingerprint_only_where_there_are_any() -> None:
    images = FixedSource(num_images=2).pairs().images
    made = [
        PairSet("toy", images, ["a"], np.array([0]), group) for group in (None, np.array([0, 0]), np.arange(2))
    ]
    assert made[0].fingerprint == "c0d41093dc19abe2"
    assert len({one.fingerprint for one in made}) == 3
