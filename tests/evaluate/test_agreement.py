"""Zero-shot and retrieval against the programs whose protocols they are: open_clip and clip_benchmark.

Both sides get the same model, images, tokens and prompts; what is compared is what each of them counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import open_clip
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from PIL import Image
from task_stubs import FixedSource
from tiny import TINY_CLIP
from torch.utils.data import DataLoader, Dataset

from benchmark.evaluate.ranks import ranks
from benchmark.evaluate.scores import DECIMALS, unit
from benchmark.evaluate.tasks.retrieval import KS, Retrieval
from benchmark.evaluate.tasks.zero_shot import ZeroShot, class_weights
from benchmark.models.clip.encoder import ClipEncoder
from benchmark.pool.source import LabelledSet, PairSet
from benchmark.pool.sources import _published as published


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    """A small CLIP with fresh weights, made larger so that its features differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**TINY_CLIP["tiny"])
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return ClipEncoder(model.eval(), open_clip.image_transform(16, is_train=False), tokenizer, 32)


def pictures(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(5).integers(0, 256, size=(count, 4, 4, 3)).astype(np.uint8)
    return [Image.fromarray(p).resize((20, 20), Image.Resampling.NEAREST) for p in pixels]


@dataclass
class Items(Dataset):  # type: ignore[type-arg]
    """What clip_benchmark's loaders take: transformed images, each with its label or its captions."""

    images: list[torch.Tensor]
    targets: list  # type: ignore[type-arg]
    classes: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, object]:
        return self.images[index], self.targets[index]


@dataclass(frozen=True, kw_only=True)
class Given(FixedSource):
    """A source of ready sets."""

    test: LabelledSet | None = None
    held_out: PairSet | None = None

    def labelled(self, split: str) -> LabelledSet:
        assert self.test is not None
        assert split == "test"
        return self.test

    def pairs(self) -> PairSet:
        assert self.held_out is not None
        return self.held_out


@pytest.mark.slow
def test_class_weights_are_those_of_open_clips_classifier(encoder: ClipEncoder) -> None:
    names, templates = published.class_names("imagenet1k")[:150], published.templates("imagenet1k")
    assert len(templates) == 80
    expected = open_clip.build_zero_shot_classifier(encoder.model, encoder.tokenizer, names, templates)  # [d, C]
    found = class_weights(encoder, names, templates, "zero_shot")
    assert np.abs(found - expected.numpy().T).max() < 1e-6


def test_class_weights_are_those_of_clip_benchmarks_classifier(encoder: ClipEncoder) -> None:
    names = published.class_names("flowers")
    table = published._table("en_zeroshot_classification_templates.json")["cifar10"]
    theirs = partial(zeroshot_classification.zero_shot_classifier, amp=False, device="cpu")
    expected = theirs(encoder.model, encoder.tokenizer, names, table)
    found = class_weights(encoder, names, published.templates("cifar10"), "zero_shot")
    assert np.abs(found - expected.numpy().T).max() < 1e-6


@pytest.mark.filterwarnings("ignore:Conversion of an array", "ignore:y_pred contains classes")  # theirs
@pytest.mark.parametrize("num_classes", [4, 6, 102])
def test_zero_shot_counts_what_clip_benchmark_counts(encoder: ClipEncoder, evaluate, num_classes: int) -> None:  # type: ignore[no-untyped-def]
    names = published.class_names("flowers")[:num_classes]
    labels = np.random.default_rng(6).integers(0, max(1, num_classes - 1), size=300)  # the last class never occurs
    images = pictures(300)
    items = Items([encoder.image_transform(i) for i in images], labels.tolist(), names)
    expected = zeroshot_classification.evaluate(
        encoder.model,
        DataLoader(items, batch_size=64),
        encoder.tokenizer,
        names,
        published._table("en_zeroshot_classification_templates.json")["cifar10"],
        "cpu",
        amp=False,
    )
    test = LabelledSet("toy", "test", images, labels, names, published.templates("cifar10"))
    found = evaluate(ZeroShot, Given(test=test), encoder)
    assert found["top1"].value == expected["acc1"]
    assert found["mean_per_class"].value == pytest.approx(expected["mean_per_class_recall"], abs=1e-12)
    if num_classes > 5:
        assert found["top5"].value == expected["acc5"]
        assert found["top5"].value > found["top1"].value > 0


def test_retrieval_counts_what_clip_benchmark_counts(encoder: ClipEncoder, evaluate) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(7)
    images, words = pictures(60), published.class_names("imagenet1k")
    captions = [[str(w) for w in rng.choice(words, size=rng.integers(1, 7), replace=False)] for _ in images]
    items = Items([encoder.image_transform(i) for i in images], captions, [])
    loader = DataLoader(
        items, batch_size=16, collate_fn=lambda b: (torch.stack([x for x, _ in b]), [y for _, y in b])
    )
    expected = zeroshot_retrieval.evaluate(
        encoder.model, loader, encoder.tokenizer, "cpu", amp=False, recall_k_list=list(KS)
    )
    owner = np.repeat(np.arange(60), [len(c) for c in captions])
    pairs = PairSet("toy", images, [c for several in captions for c in several], owner)
    found = evaluate(Retrieval, Given(held_out=pairs), encoder)
    for k in KS:
        # clip_benchmark's mean is in float32
        assert found[f"text_to_image_r{k}"].value == pytest.approx(
            expected[f"image_retrieval_recall@{k}"], abs=1e-7
        )
        assert found[f"image_to_text_r{k}"].value == pytest.approx(
            expected[f"text_retrieval_recall@{k}"], abs=1e-7
        )


@pytest.mark.parametrize("per_image", [1, 5, None])
def test_every_query_is_a_hit_where_clip_benchmark_has_one(per_image: int | None) -> None:
    rng = np.random.default_rng(8)
    counts = np.full(250, per_image) if per_image else rng.integers(1, 9, size=250)
    owner = np.repeat(np.arange(250), counts)
    images = rng.standard_normal((250, 32)).astype(np.float32)
    texts = (images[owner] + 2.5 * rng.standard_normal((len(owner), 32))).astype(np.float32)
    scores = torch.from_numpy(np.round(unit(texts) @ unit(images).T, DECIMALS))  # [m, n]
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(owner)), torch.from_numpy(owner)] = True
    text_place = ranks(texts, images, owner, np.arange(250))
    image_place = ranks(images, texts, np.arange(250), owner)
    for k in KS:
        # torch.topk takes any of equal scores: only queries without a tie at the border are theirs to tell
        for place, s, p in ((text_place, scores, positive), (image_place, scores.T, positive.T.contiguous())):
            top = s.topk(k + 1, dim=1).values
            told = (top[:, k - 1] != top[:, k]).numpy()
            hits = (zeroshot_retrieval.recall_at_k(s, p, k) > 0).numpy()
            assert told.mean() > 0.99
            assert ((place < k) == hits)[told].all()
