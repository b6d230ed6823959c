"""The distortions of figure 4c, d."""

import pytest
import torch

from hybrid_plasticity.distortions import KINDS, LEVELS, NOISE_KINDS, distort
from shared.errors import UserError


@pytest.fixture
def images():
    return torch.rand(40, 28, 28, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_level_0_changes_nothing_and_every_level_stays_in_range(kind, images):
    assert torch.equal(distort(images, kind, 0), images)
    for level in (1, 6, LEVELS[-1]):
        distorted = distort(images, kind, level)
        assert distorted.dtype == images.dtype
        assert distorted.shape == images.shape
        assert 0 <= distorted.min() <= distorted.max() <= 1
        assert not torch.equal(distorted, images)


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_a_level_draws_the_same_noise_again(kind, images):
    before = images.clone()
    assert torch.equal(distort(images, kind, 5), distort(images, kind, 5))
    assert torch.equal(images, before)


def test_the_central_square_is_blanked(images):
    cropped = distort(images, "crop", 3)
    assert torch.equal(cropped[:, 11:17, 11:17], torch.zeros(40, 6, 6))
    kept = torch.ones(28, 28, dtype=torch.bool)
    kept[11:17, 11:17] = False
    assert torch.equal(cropped[:, kept], images[:, kept])
    assert not distort(images, "crop", 14).any()


@pytest.mark.parametrize(
    ("kind", "white", "black"),
    [("salt", 0.01, 0.0), ("pepper", 0.0, 0.06), ("s&p", 0.01, 0.01)],
)
def test_shares_of_white_and_black_pixels(kind, white, black, images):
    level = 10
    noisy = distort(images, kind, level)
    assert (noisy == 1).float().mean().item() == pytest.approx(white * level, abs=0.01)
    assert (noisy == 0).float().mean().item() == pytest.approx(black * level, abs=0.01)


def test_variance_of_gaussian_noise():
    gray = torch.full((200, 28, 28), 0.5)
    assert distort(gray, "gaussian", 2).var().item() == pytest.approx(0.02, rel=0.05)


def test_bad_kinds_and_levels(images):
    with pytest.raises(UserError, match=r"no distortion is called 'fog': choose from crop, gauss"):
        distort(images, "fog", 1)
    with pytest.raises(UserError, match=r"level 15 of salt: levels go from 0 to 14"):
        distort(images, "salt", 15)
