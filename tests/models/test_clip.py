"""CLIP: losses, gradient caching, temperature, parameter groups."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from PIL import Image
from tiny import TINY_CLIP
from torchvision.transforms import RandomResizedCrop

from benchmark.config.run import Choice
from benchmark.models.clip import objective as clip_objective
from benchmark.models.clip import options
from benchmark.models.clip.objective import MAX_LOGIT_SCALE, Clip, contrastive_losses, make
from benchmark.models.clip.transform import CROP_RATIO, CROP_SCALE, ClipTransform, crop_box, normalised
from benchmark.models.objective import micro_batches
from benchmark.pool.samples import Sample

TINY = Choice(name="tiny", options=TINY_CLIP["tiny"])
RESNET = Choice(
    name="resnet",
    options={
        **TINY_CLIP["tiny"],
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
    },
)


def batch(objective: Clip, size: int = 8) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    side = objective.model.visual.image_size
    side = side[0] if isinstance(side, tuple) else side
    images = torch.randint(256, (size, side, side, 3), generator=generator, dtype=torch.uint8)
    captions = [f"a picture of thing number {i}" for i in range(size)]
    return images, objective.transform.tokenizer(captions)


def test_losses_are_the_cross_entropies_of_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    images, texts = (rng.normal(size=(5, 4)).astype(np.float32) for _ in range(2))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    logits = 7.0 * images @ texts.T
    by_image = [-np.log(np.exp(logits[i, i]) / np.exp(logits[i]).sum()) for i in range(5)]
    by_text = [-np.log(np.exp(logits[i, i]) / np.exp(logits[:, i]).sum()) for i in range(5)]
    found = contrastive_losses(torch.from_numpy(images), torch.from_numpy(texts), torch.tensor(7.0)).numpy()
    assert np.allclose(found, np.stack([by_image, by_text], axis=1), atol=1e-5)


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_accumulation_gives_the_gradient_of_the_whole_batch(
    accumulate: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64: the last bits of float32 differ from processor to processor."""
    monkeypatch.setattr(clip_objective, "normalised", lambda images, *_: normalised(images).double())
    whole, parts = make(TINY, 0).double(), make(TINY, 0).double()
    tensors = batch(whole)
    weight = torch.linspace(0.5, 2, 8, dtype=torch.float64) if weighted else None
    results = [
        objective.backward(objective, tensors, weight, lambda loss: loss, nullcontext, count)
        for objective, count in ((whole, 1), (parts, accumulate))
    ]
    assert torch.allclose(*results, atol=1e-12)
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        assert torch.allclose(one.grad, other.grad, atol=1e-12), name


DRAWING = {
    "dropout and stochastic depth": {
        "timm_model_name": "swin_mini_patch4_window4_32",
        "image_size": 32,
        "timm_drop": 0.3,
        "timm_drop_path": 0.3,
    },
    "patch dropout": {**TINY_CLIP["tiny"]["vision_cfg"], "image_size": 32, "patch_dropout": 0.5},
}


@pytest.mark.parametrize("kind", list(DRAWING))
def test_accumulation_gives_the_gradient_of_the_losses_it_returns_also_where_a_model_draws(kind: str) -> None:
    """As if all micro-batches had been embedded once, with the same draws, and held with their graphs."""
    model = Choice(name="drawing", options={**TINY_CLIP["tiny"], "vision_cfg": DRAWING[kind]})
    held, cached = make(model, 0).train(), make(model, 0).train()
    tensors = batch(held)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        features = [held(part, features_only=True) for part in micro_batches(tensors, 4)]
        images, texts, scales = zip(*features, strict=True)
        expected = contrastive_losses(torch.cat(images), torch.cat(texts), scales[0])
        held.reduce(expected, None).backward()
        after = torch.get_rng_state()
        torch.manual_seed(1)
        losses = cached.backward(cached, tensors, None, lambda loss: loss, nullcontext, 4)
        assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(losses, expected)
    for (name, one), other in zip(held.named_parameters(), cached.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=0, atol=2e-6 * float(one.grad.abs().max()), msg=name)


def test_accumulation_takes_batch_statistics_once() -> None:
    objective = make(RESNET, 0)
    objective.train()
    tensors = batch(objective)
    layer = objective.model.visual.bn1
    before = layer.running_mean.clone()
    with torch.no_grad():
        features = torch.stack(
            [objective.model.visual.conv1(normalised(part)).mean(dim=(0, 2, 3)) for part in tensors[0].chunk(2)]
        )
    expected = before
    for mean in features:
        expected = 0.9 * expected + 0.1 * mean
    objective.backward(objective, tensors, None, lambda loss: loss, nullcontext, 2)
    assert torch.allclose(layer.running_mean, expected, atol=1e-5)
    assert layer.momentum == 0.1


def test_temperature_is_clamped() -> None:
    objective = make(TINY, 0)
    with torch.no_grad():
        objective.model.logit_scale.fill_(9.0)
    objective.after_step()
    assert objective.model.logit_scale.item() == pytest.approx(MAX_LOGIT_SCALE)


def test_gains_biases_and_the_temperature_do_not_decay() -> None:
    objective = make(TINY, 0)
    decayed, exempt = objective.decay_groups()
    assert len(decayed) + len(exempt) == len(list(objective.parameters()))
    assert all(p.ndim >= 2 for p in decayed)
    assert any(p is objective.model.logit_scale for p in exempt)


def test_initialisation_depends_on_the_seed_alone() -> None:
    one, same, other = make(TINY, 3), make(TINY, 3), make(TINY, 4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.model.text_projection, other.model.text_projection)


def test_the_encoder_is_in_eval_mode_and_gives_training_mode_back() -> None:
    objective = make(RESNET, 0)
    objective.train()
    encoder = objective.encoder(batch_size=2)
    images = [Image.new("RGB", (40, 30), (i * 40, 0, 0)) for i in range(5)]
    statistics = objective.model.visual.bn1.running_mean.clone()
    features = encoder.encode_images(images)
    assert features.shape == (5, 16)
    assert features.dtype == np.float32
    assert torch.equal(objective.model.visual.bn1.running_mean, statistics)
    assert objective.model.training
    assert np.allclose(features[:2], encoder.encode_images(images[:2]), atol=1e-6)
    assert encoder.encode_texts(["a", "b", "c"]).shape == (3, 16)


@pytest.mark.parametrize("size", [(40, 30), (16, 16), (7, 90)])
def test_training_images_are_those_of_open_clips_own_transform(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, theirs = Image.fromarray(pixels), open_clip.image_transform(16, is_train=True)
    transform = make(TINY, 0).transform
    for seed in range(5):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            wanted = theirs(image)
            torch.manual_seed(seed)
            ours, tokens = transform(Sample(image, "a red circle"))
        assert ours.dtype == torch.uint8
        assert torch.allclose(normalised(ours[None])[0], wanted, atol=1e-5)
        assert tokens.tolist() == open_clip.SimpleTokenizer(context_length=16)("a red circle")[0].tolist()


TRANSFORM, TOKENIZER = ClipTransform(16, 24), open_clip.SimpleTokenizer(context_length=24)
PIECES = st.sampled_from(
    [
        "  ",
        "'s",
        "don't",
        "'LL",
        "<start_of_text>",
        "<END_OF_TEXT>",
        "<",
        "&amp;",
        "&",
        "a",
        "Zebra",
        "42",
        "...",
        "_",
    ]
)
CAPTIONS = st.one_of(
    st.text(),
    st.text(st.characters(max_codepoint=127)),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80),
    st.lists(PIECES, max_size=30).map("".join),
)


@settings(max_examples=400, deadline=None)
@given(CAPTIONS)
@example("")
@example("A photo of a dog &lt;3, it\u2019s 12\u00a0m wide")
@example("\x1b[1mbold\x1b[0m\r\ntabs\there")
def test_token_ids_are_those_of_open_clips_tokenizer(caption: str) -> None:
    ids = TRANSFORM.token_ids(caption)
    assert ids.dtype == torch.int64
    assert ids.tolist() == TOKENIZER([caption])[0].tolist()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 1 << 40))
@example(1, 600, 0)
@example(600, 1, 0)
@example(256, 256, 0)
def test_crops_are_the_draws_of_torchvision(height: int, width: int, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wanted = RandomResizedCrop.get_params(torch.empty(3, height, width), CROP_SCALE, CROP_RATIO)
        after = torch.get_rng_state()
        torch.manual_seed(seed)
        assert crop_box(height, width) == tuple(wanted)
        assert torch.equal(torch.get_rng_state(), after)


def test_normalised_images_are_bit_equal_to_the_formula() -> None:
    images = torch.randint(256, (3, 5, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = (torch.tensor(v) * 255 for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    found = normalised(images)
    assert found.is_contiguous()
    assert torch.equal(found, ((images - mean) / std).permute(0, 3, 1, 2))


def test_options_are_those_of_open_clip_though_it_is_not_loaded_to_check_them() -> None:
    assert set(options.model_names()) == set(open_clip.list_models()) - {"mini"}  # which another test adds
    for cls in (CLIPVisionCfg, CLIPTextCfg):
        assert options.fields_of(cls.__name__) == [field.name for field in dataclasses.fields(cls)]
