"""MoCo v3: its losses, momentum encoder, trained parameters and encoder, on a tiny network."""

from __future__ import annotations

import contextlib
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from benchmark import dist
from benchmark.config.run import Choice
from benchmark.models.moco.objective import Moco, contrastive_losses, make, momentum_at
from benchmark.models.moco.views import IMAGENET_MEAN, IMAGENET_STD
from benchmark.pool.samples import Sample

TINY = {
    "width": 24,
    "depth": 2,
    "heads": 3,
    "image_size": 16,
    "patch_size": 4,
    "hidden_dim": 32,
    "embed_dim": 16,
    "eval_crop": 1.0,
}


def tiny(seed: int = 0, **options: object) -> Moco:
    return make(Choice(name="tiny", options={**TINY, **options}), seed)


def tiny_resnet(seed: int = 0) -> Moco:
    options = {"backbone": "resnet18", "image_size": 32, "hidden_dim": 32, "embed_dim": 16}
    return make(Choice(name="small", options=options), seed)


def views(count: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randint(0, 256, (2, count, size, size, 3), dtype=torch.uint8, generator=generator)
    return first, second


def train_step(model: Moco, batch: tuple[torch.Tensor, ...], optimizer: torch.optim.Optimizer, progress: float):
    model.before_step(progress)
    losses = model.backward(model, batch, None, lambda loss: loss, contextlib.nullcontext, 1)
    optimizer.step()
    optimizer.zero_grad()
    return losses


def naive_losses(queries: np.ndarray, keys: np.ndarray, temperature: float) -> list[float]:
    losses = []
    for i, q in enumerate(queries):
        cosines = [float(q @ k / np.linalg.norm(q) / np.linalg.norm(k)) for k in keys]
        total = sum(math.exp(c / temperature) for c in cosines)
        losses.append(-math.log(math.exp(cosines[i] / temperature) / total) * 2 * temperature)
    return losses


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_losses_equal_a_naive_transcription_of_the_paper(temperature):
    model, pixels = tiny(temperature=temperature), views(6)
    view1, view2 = model.views(pixels)
    with torch.no_grad():
        q1, q2 = (model.predictor(model.base(v)).double().numpy() for v in (view1, view2))
        k1, k2 = (model.momentum_encoder(v).double().numpy() for v in (view1, view2))
    losses = model(pixels)
    assert losses.shape == (6, 2)
    assert losses.dtype == torch.float32
    expected = np.stack([naive_losses(q1, k2, temperature), naive_losses(q2, k1, temperature)], axis=1)
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-4)


def test_training_loss_is_the_sum_of_both_means():
    model = tiny()
    losses = model(views(4))
    assert model.reduce(losses, None).item() == pytest.approx(
        losses[:, 0].mean().item() + losses[:, 1].mean().item()
    )


def test_each_rank_finds_its_own_keys_among_those_of_all_ranks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    q1, q2, k1, k2 = torch.randn(4, 6, 5, generator=generator)
    whole = contrastive_losses(q1, q2, k1, k2, 0.2)
    keys = torch.cat([torch.nn.functional.normalize(k, dim=1) for k in (k1, k2)], dim=1)
    monkeypatch.setattr(dist, "gather", lambda local: keys)
    for rank in range(3):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        mine = slice(2 * rank, 2 * rank + 2)
        part = contrastive_losses(q1[mine], q2[mine], k1[mine], k2[mine], 0.2)
        torch.testing.assert_close(part, whole[mine])


def test_softmax_is_in_float32_under_autocast():
    q1, q2, k1, k2 = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    expected = contrastive_losses(q1, q2, k1, k2, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = contrastive_losses(q1, q2, k1, k2, 0.2)
        assert tiny()(views(4)).dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=0, atol=0)


def test_momentum_follows_half_a_cosine_to_one():
    assert momentum_at(0.0, 0.99, True) == pytest.approx(0.99)
    assert momentum_at(0.5, 0.99, True) == pytest.approx(0.995)
    assert momentum_at(1.0, 0.99, True) == 1.0
    assert momentum_at(0.5, 0.99, False) == 0.99


@pytest.mark.parametrize("build", [tiny, tiny_resnet])
def test_momentum_encoder_starts_equal_gets_no_gradient_and_moves_by_one_minus_m(build):
    model = build()
    pairs = list(zip(model.base.parameters(), model.momentum_encoder.parameters(), strict=True))
    assert all(torch.equal(p, k) for p, k in pairs)
    optimizer = torch.optim.SGD(model.decay_groups()[0], lr=0.1)
    train_step(model, views(4, 16 if build is tiny else 32), optimizer, 0.0)
    assert all(k.grad is None and not k.requires_grad for _, k in pairs)
    before = [k.clone() for _, k in pairs]
    assert any(not torch.equal(p, k) for p, k in pairs)
    model.before_step(0.5)
    m = momentum_at(0.5, model.options.momentum, True)
    for (p, k), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(k, m * old + (1 - m) * p)


def test_first_step_compares_with_an_unmoved_momentum_encoder():
    model = tiny()
    before = [k.clone() for k in model.momentum_encoder.parameters()]
    model.before_step(0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.momentum_encoder.parameters(), strict=True))


@pytest.mark.parametrize("frozen", [True, False])
def test_patch_projection_stays_only_if_frozen(frozen):
    model = tiny(freeze_patch_projection=frozen)
    weight = model.base.backbone.patch_embed.proj.weight
    before = weight.clone()
    groups = model.decay_groups()
    assert any(weight is p for group in groups for p in group) is not frozen
    optimizer = torch.optim.AdamW(groups[0], lr=0.01)
    for _ in range(3):
        train_step(model, views(4), optimizer, 0.1)
    assert torch.equal(before, weight) is frozen
    assert torch.equal(before, model.momentum_encoder.backbone.patch_embed.proj.weight) is frozen


def test_everything_trained_decays_in_a_transformer_and_matrices_alone_in_a_resnet():
    vit, resnet = tiny(), tiny_resnet()
    decayed, free = vit.decay_groups()
    assert not free
    assert {id(p) for p in decayed} == {id(p) for p in vit.parameters() if p.requires_grad}
    decayed, free = resnet.decay_groups()
    assert min(p.ndim for p in decayed) > 1
    assert max(p.ndim for p in free) == 1
    assert len(decayed) + len(free) == sum(p.requires_grad for p in resnet.parameters())


def test_make_depends_on_the_seed_alone_and_leaves_global_generators_untouched():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = tiny(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    torch.manual_seed(6)
    again, other = tiny(seed=3).state_dict(), tiny(seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["predictor.0.weight"], other["predictor.0.weight"])


def test_state_dict_is_all_that_resuming_needs():
    def trained(model: Moco, optimizer: torch.optim.Optimizer, steps: list[float]) -> torch.Tensor:
        return [train_step(model, views(4), optimizer, progress) for progress in steps][-1]

    whole = tiny()
    expected = trained(whole, torch.optim.SGD(whole.decay_groups()[0], lr=0.1), [0.0, 0.1, 0.2, 0.3])
    before = tiny()
    trained(before, torch.optim.SGD(before.decay_groups()[0], lr=0.1), [0.0, 0.1])
    after = tiny(seed=9)
    after.load_state_dict(before.state_dict())
    resumed = trained(after, torch.optim.SGD(after.decay_groups()[0], lr=0.1), [0.2, 0.3])
    assert torch.equal(resumed, expected)


def digits(count: int) -> list[Image.Image]:
    grey = (load_digits().images[:count] * 15.9).astype(np.uint8)
    return [Image.fromarray(image).convert("RGB") for image in grey]


@pytest.mark.slow
def test_training_on_digits_reduces_the_loss():
    model = tiny(flip=False, blur_sigma_max=0.2, crop_min=0.5)
    torch.manual_seed(0)
    examples = [model.transform(Sample(image, "")) for image in digits(64)]
    batch = tuple(torch.stack(column) for column in zip(*examples, strict=True))
    optimizer = torch.optim.AdamW(model.decay_groups()[0], lr=3e-3, weight_decay=0.1)
    losses = [train_step(model, batch, optimizer, step / 30).mean().item() for step in range(30)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("build", "width"), [(tiny, 24), (tiny_resnet, 512)])
def test_encoder_gives_the_backbones_output_and_puts_the_mode_back(build, width):
    model, images = build().train(), digits(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = model.encoder(batch_size=2).encode_images(images)
    assert features.shape == (5, width)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, model.encoder(batch_size=5).encode_images(images), atol=1e-5)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_encoder_sees_the_whole_normalised_image_at_eval_crop_1_and_the_centre_below():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    model = tiny()
    encode = model.encoder()
    expected = torch.from_numpy((pixels.transpose(2, 0, 1) / 255 - IMAGENET_MEAN) / IMAGENET_STD).float()
    torch.testing.assert_close(encode.view(Image.fromarray(pixels)), expected)
    white_border = Image.new("RGB", (256, 256), "white")
    white_border.paste((0, 0, 0), (16, 16, 240, 240))
    cropped = tiny(image_size=224, patch_size=56, eval_crop=0.875).encoder().view(white_border)
    torch.testing.assert_close(cropped, torch.from_numpy(-IMAGENET_MEAN / IMAGENET_STD).expand(3, 224, 224))


def test_encode_texts_says_that_there_is_no_text():
    with pytest.raises(ValueError, match="no text encoder"):
        tiny().encoder().encode_texts(["a cat"])
