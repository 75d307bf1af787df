"""Artefacts against hand cases, SciPy, and MONAI where it is there."""

import math
import random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from yolospine_ultra.data.augment import mri

RNG = np.random.default_rng(0)
SLICE = cv2.GaussianBlur(RNG.integers(0, 256, (400, 320), dtype=np.uint8), (0, 0), 1)


def seeded(seed):
    random.seed(seed)
    np.random.seed(seed)


def applied(p, image, seed=0):
    seeded(seed)
    return mri.MRIArtefacts(p)(image)


def test_gaussian_blur_is_scipys():
    expected = ndimage.gaussian_filter(SLICE.astype(float), 1.5, mode="mirror")
    assert np.abs(mri.gaussian_blur(SLICE, 1.5) - expected).max() <= 2


@pytest.mark.parametrize("signal", [0, 10, 120])
def test_rician_noise_has_the_rice_distribution(signal):
    sigma = 12.0
    flat = np.full((256, 256), signal, np.uint8)
    values = mri.rician_noise(flat, sigma, 7).ravel() + RNG.uniform(-0.5, 0.5, flat.size)  # undo the rounding
    law = stats.rice(signal / sigma, scale=sigma)
    assert stats.kstest(values, law.cdf).statistic < 0.02
    assert values.mean() == pytest.approx(law.mean(), abs=0.3)


def test_rician_noise_follows_its_seed():
    first, again, other = (mri.rician_noise(SLICE, 10, s) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_rician_noise_saturates():
    assert mri.rician_noise(np.full((64, 64), 250, np.uint8), 23, 0).max() == 255


def test_motion_kernel_by_hand():
    assert mri.motion_kernel(4, 0)[2] == pytest.approx([0.125, 0.25, 0.25, 0.25, 0.125])
    assert mri.motion_kernel(4, 0)[[0, 1, 3, 4]].sum() == 0
    assert mri.motion_kernel(4, 90) == pytest.approx(mri.motion_kernel(4, 0).T, abs=1e-6)
    assert mri.motion_kernel(1e-3, 30) == pytest.approx(np.pad([[1.0]], 1), abs=0.01)


@given(st.floats(0.1, 20), st.floats(0, 180))
@settings(max_examples=50, deadline=None)
def test_motion_kernel_is_a_centred_line(length, angle):
    kernel = mri.motion_kernel(length, angle)
    half = len(kernel) // 2
    assert kernel.min() >= 0 and kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel == pytest.approx(kernel[::-1, ::-1], abs=1e-6)  # nothing is shifted, so boxes stay right
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
    across = y * math.cos(math.radians(angle)) - x * math.sin(math.radians(angle))
    # a line's variance length**2 / 12 along it, and about a pixel's across
    assert (kernel * along**2).sum() == pytest.approx(length**2 / 12, abs=0.25 + 0.1 * length)
    assert (kernel * across**2).sum() < 0.35


def test_motion_blur_is_a_mean_over_the_way():
    expected = ndimage.uniform_filter1d(SLICE.astype(float), 5, axis=1, mode="mirror")
    assert np.abs(mri.motion_blur(SLICE, 5, 0) - expected).max() <= 1


def test_field_by_hand():
    linear = np.zeros((4, 4))
    linear[0, 1] = -3.0  # P_1(x), brightest at the left
    got = mri.field((3, 5), 2.0, linear)
    assert got == pytest.approx(np.tile(2.0 ** np.array([1, 0.5, 0, -0.5, -1]), (3, 1)), rel=1e-5)


@given(st.integers(0, 10_000), st.floats(1.05, 2), st.integers(2, 40), st.integers(2, 40))
@settings(max_examples=50, deadline=None)
def test_field_is_the_polynomials_and_as_strong_as_asked(seed, gain, h, w):
    coefficients = np.random.default_rng(seed).uniform(-1, 1, (4, 4))
    got = np.log(mri.field((h, w), gain, coefficients))
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    legendre = [np.ones_like, lambda t: t, lambda t: (3 * t**2 - 1) / 2, lambda t: (5 * t**3 - 3 * t) / 2]
    terms = [(i, j) for i in range(4) for j in range(4) if 1 <= i + j <= 3]
    expected = sum(coefficients[i, j] * legendre[i](y) * legendre[j](x) for i, j in terms)
    assert got == pytest.approx(expected * math.log(gain) / np.abs(expected).max(), abs=1e-3)


@pytest.mark.slow  # MONAI takes long to import
def test_monai_gives_the_same():
    pytest.importorskip("monai", reason="needs MONAI")
    from monai.transforms.intensity.array import GaussianSmooth, RandRicianNoise

    smooth = GaussianSmooth(sigma=1.5)(SLICE[None].astype(np.float32)).numpy()[0]
    inside = slice(10, -10)  # MONAI pads with zeros
    assert np.abs(mri.gaussian_blur(SLICE, 1.5) - smooth)[inside, inside].max() <= 2
    flat = np.full((256, 256), 20, np.uint8)
    theirs = RandRicianNoise(prob=1, std=15.0, sample_std=False).set_random_state(0)(flat[None].astype(np.float32))
    ours = mri.rician_noise(flat, 15.0, 0)
    assert stats.ks_2samp(ours.ravel(), theirs.numpy().round().ravel()).statistic < 0.01


@pytest.mark.parametrize("draw", mri.ARTEFACTS)
def test_each_artefact_changes_the_image_within_its_range(draw):
    for seed in range(20):
        seeded(seed)
        changed = draw(SLICE)(SLICE)
        assert changed.dtype == np.uint8 and changed.shape == SLICE.shape
        difference = np.abs(changed.astype(int) - SLICE).mean()
        assert 0.2 < difference < 40


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_images_stay_grey_and_the_input_as_it_was(channels):
    image = np.repeat(SLICE[..., None], channels, axis=2)
    before = image.copy()
    for seed in range(12):
        out = applied(1.0, image, seed)
        assert out.shape == image.shape and out.dtype == np.uint8 and not np.shares_memory(out, image)
        assert (out == out[..., :1]).all()
        assert not np.array_equal(out, image)
    assert np.array_equal(image, before)


def test_channels_that_differ_are_changed_alike():
    image = np.dstack([SLICE, SLICE, 255 - SLICE])
    for seed in range(12):
        out = applied(1.0, image, seed)
        assert np.array_equal(out[..., 0], out[..., 1]) and not np.array_equal(out[..., 0], out[..., 2])


def test_probability():
    image = SLICE[..., None]
    assert applied(0.0, image) is image
    seeded(0)
    artefacts = mri.MRIArtefacts(0.3)
    assert 0.25 < np.mean([artefacts(image) is not image for _ in range(1000)]) < 0.35


def test_the_hosts_seed_decides():
    image = np.repeat(SLICE[..., None], 3, axis=2)
    for seed in range(8):
        assert np.array_equal(applied(1.0, image, seed), applied(1.0, image, seed))
    assert len({applied(1.0, image, seed).tobytes() for seed in range(8)}) == 8
