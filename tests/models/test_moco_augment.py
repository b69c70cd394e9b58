"""The two views of MoCo v3: what decides them, and what each holds."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_MOCO
from torchvision import transforms as tv

from benchmark.config.run import Choice
from benchmark.models.moco.objective import make
from benchmark.models.moco.options import model_options
from benchmark.models.moco.views import IMAGENET_MEAN, IMAGENET_STD, GaussianBlur, TwoViews, to_tensor
from benchmark.pool.samples import Sample


def two_views(**options: object) -> TwoViews:
    chosen = {**TINY_MOCO["tiny"], "image_size": 16, **options}
    return TwoViews(model_options(Choice(name="tiny", options=chosen), "model"))


def noise(size: int = 20) -> Sample:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Sample(Image.fromarray(pixels), "")


def draw(transform: TwoViews, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.stack(transform(noise()))


def test_views_have_the_networks_size_and_type():
    views = draw(two_views(), 0)
    assert views.shape == (2, 16, 16, 3)
    assert views.dtype == torch.uint8
    assert not torch.equal(views[0], views[1])


def test_torchs_seed_alone_decides_the_views():
    transform = two_views()
    for seed in range(20):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        first = draw(transform, seed)
        state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
        assert torch.equal(first, draw(pickle.loads(pickle.dumps(transform)), seed))  # noqa: S301
        assert random.getstate() == state[0]
        assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
        assert not torch.equal(first, draw(transform, seed + 1))


def test_views_take_the_published_steps_with_the_published_probabilities():
    def steps(view: tv.Compose) -> list[tuple[str, float]]:
        def probability(step: object) -> float:
            return float(getattr(step, "p", 1.0))

        return [(type(getattr(s, "transforms", [s])[0]).__name__, probability(s)) for s in view.transforms[:-1]]

    transform = two_views()
    start = [("RandomResizedCrop", 1.0), ("ColorJitter", 0.8), ("RandomGrayscale", 0.2)]
    end = [("RandomHorizontalFlip", 0.5)]
    assert steps(transform.first) == [*start, ("GaussianBlur", 1.0), ("RandomSolarize", 0.0), *end]
    assert steps(transform.second) == [*start, ("GaussianBlur", 0.1), ("RandomSolarize", 0.2), *end]
    assert transform.first.transforms[0].scale == (0.08, 1.0)
    assert two_views(flip=False).first.transforms[-2].p == 0


@pytest.mark.parametrize("size", [16, 31])
def test_to_tensor_equals_torchvisions(size):
    image = noise(size).image
    mean, std = IMAGENET_MEAN.flatten().tolist(), IMAGENET_STD.flatten().tolist()
    reference = tv.Normalize(mean, std)(tv.ToTensor()(image))
    torch.testing.assert_close(to_tensor(image), reference)
    assert to_tensor(image).is_contiguous()


def test_the_models_half_of_normalising_equals_to_tensor_bit_for_bit():
    """Runs from before this half moved to the model's device keep their numbers."""
    images = [noise(size).image.resize((16, 16)) for size in range(9, 17)]
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image in images])
    model = make(Choice(name="tiny", options={**TINY_MOCO["tiny"], "image_size": 16}), 0)
    expected = torch.stack([to_tensor(image) for image in images])
    for view in model.views((pixels, pixels)):
        assert torch.equal(view, expected)
        assert view.is_contiguous()
    assert not [name for name in model.state_dict() if "pixel" in name]


def test_blur_smooths_more_the_wider_it_is():
    image = noise(64).image
    spread = [np.asarray(GaussianBlur(s, s)(image), dtype=float).std() for s in (0.1, 0.5, 2.0)]
    assert spread[0] > spread[1] > spread[2]
