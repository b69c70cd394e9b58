"""Retrieval on cases counted by hand: several captions an image, equal captions, few candidates, collapse."""

import numpy as np
import pytest
from task_stubs import FixedSource, TableEncoder

from benchmark.evaluate.retrieval import KS, Retrieval


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
    assert {name: (row.value, row.n) for name, row in found.items()} == {
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
        "image_to_text_r1",
        "image_to_text_r5",
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
