"""Degradations against hand cases, SciPy's distributions, NumPy's transforms, and what none of them may do."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from yolospine_ultra.robustness.degrade import DEGRADATIONS, Condition, conditions, degrade, field, gibbs, motion

RNG = np.random.default_rng(0)
SLICE = cv2.GaussianBlur(RNG.integers(0, 256, (120, 96), dtype=np.uint8), (0, 0), 1.5)
ALL = conditions()


def rng(seed=0):
    return np.random.default_rng(seed)


def flat(value, side=200):
    return np.full((side, side), value, np.uint8)


def test_types_and_levels_are_those_of_the_procedure():
    assert {k: d.levels for k, d in DEGRADATIONS.items()} == {
        "gaussian": (10, 25, 50, 75),
        "rician": (10, 20, 35, 50),
        "motion": (0.1, 0.2, 0.3, 0.5),
        "bias": (0.2, 0.4, 0.6, 0.8),
        "gibbs": (0.1, 0.2, 0.3, 0.4),
        "contrast": (0.8, 0.7, 0.6, 0.5),
    }
    assert len(ALL) == 24 and Condition("rician", 3).value == 35 and str(Condition("rician", 3)) == "rician-3"
    assert conditions(["bias", "bias"]) == [Condition("bias", i) for i in (1, 2, 3, 4)]


@pytest.mark.parametrize(("kinds", "message"), [(["blur"], "'blur' is unknown"), ([], "no type")])
def test_unknown_types_are_refused(kinds, message):
    with pytest.raises(ValueError, match=message):
        conditions(kinds)


@pytest.mark.parametrize("condition", ALL, ids=str)
def test_every_condition_changes_the_image_and_keeps_its_form(condition):
    before = SLICE.copy()
    changed = degrade(SLICE, condition)
    assert changed.dtype == np.uint8 and changed.shape == SLICE.shape
    assert (changed != SLICE).any() and np.array_equal(SLICE, before)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_grey_image_stays_grey_and_is_degraded_as_with_one_channel(kind):
    grey = degrade(np.dstack([SLICE] * 3), Condition(kind, 2))
    assert np.array_equal(grey, np.dstack([degrade(SLICE, Condition(kind, 2))] * 3))
    assert np.array_equal(degrade(SLICE[..., None], Condition(kind, 2))[..., 0], grey[..., 0])


@pytest.mark.parametrize("kind", ["gaussian", "rician", "motion", "bias"])
def test_channels_of_a_colour_image_get_the_same_random_numbers(kind):
    other = np.roll(SLICE, 30, 0)
    colour = degrade(np.dstack([SLICE, other, SLICE]), Condition(kind, 2))
    assert np.array_equal(colour[..., 0], degrade(SLICE, Condition(kind, 2)))
    assert np.array_equal(colour[..., 0], colour[..., 2]) and not np.array_equal(colour[..., 0], colour[..., 1])


@pytest.mark.parametrize("kind", ["gaussian", "rician", "motion", "bias"])
def test_random_numbers_follow_image_and_seed_and_nothing_else(kind):
    condition, other = Condition(kind, 2), flat(100)
    first = degrade(SLICE, condition)
    np.random.seed(3)
    cv2.setRNGSeed(3)
    degrade(other, condition)
    assert np.array_equal(degrade(SLICE, condition), first)
    assert not np.array_equal(degrade(SLICE, condition, seed=1), first)
    nearly = SLICE.copy()
    nearly[0, 0] ^= 1
    assert not np.array_equal(degrade(nearly, condition)[1:], first[1:])


def test_levels_are_stronger_forms_of_each_other():
    for kind in DEGRADATIONS:
        errors = [np.square(degrade(SLICE, Condition(kind, i)).astype(float) - SLICE).mean() for i in (1, 2, 3, 4)]
        assert errors == sorted(errors) and errors[0] < errors[3], kind
    noise = [degrade(flat(128), Condition("gaussian", i)).astype(float) - 128 for i in (1, 2)]
    assert noise[1] == pytest.approx(2.5 * noise[0], abs=1.8)  # the same draw, rounded twice


@pytest.mark.parametrize("level", [1, 2])
def test_gaussian_noise_is_normal(level):
    sigma = DEGRADATIONS["gaussian"].levels[level - 1]
    values = degrade(flat(128), Condition("gaussian", level)) + RNG.uniform(-0.5, 0.5, (200, 200)) - 128.0
    assert stats.kstest(values.ravel(), stats.norm(0, sigma).cdf).statistic < 0.015


@pytest.mark.parametrize(("signal", "level"), [(0, 1), (20, 2), (60, 3)])
def test_rician_noise_has_the_rice_distribution(signal, level):
    sigma = DEGRADATIONS["rician"].levels[level - 1]
    values = degrade(flat(signal), Condition("rician", level)) + RNG.uniform(-0.5, 0.5, (200, 200))
    assert stats.kstest(values.ravel(), stats.rice(signal / sigma, scale=sigma).cdf).statistic < 0.015


def test_noise_is_clipped_at_both_ends():
    assert set(np.unique(degrade(flat(0), Condition("gaussian", 4)))) >= {0, 50}
    assert degrade(flat(0), Condition("gaussian", 4)).min() == 0
    assert degrade(flat(255), Condition("gaussian", 4)).max() == 255 == degrade(flat(255), Condition("rician", 4)).max()


def test_motion_changes_phases_only():
    """A change of phase keeps the energy (Parseval), and whatever is constant along the rows' direction."""
    got = motion(SLICE, 0.5, rng())
    assert np.square(got).sum() == pytest.approx(np.square(SLICE.astype(float)).sum(), rel=1e-4)
    columns = np.repeat(RNG.integers(0, 256, (1, 80), dtype=np.uint8), 64, 0)  # all of it in the central row of k-space
    assert motion(columns, 0.5, rng()) == pytest.approx(columns, abs=1e-3)
    assert np.abs(motion(columns.T, 0.5, rng()) - columns.T).max() > 20


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_motion_takes_its_share_of_rows(share):
    """At the place of a point every row adds 1 / h in phase; rows of random phase add nothing in the mean."""
    point = np.zeros((100, 4), np.uint8)
    point[0, 0] = 200
    left = [motion(point, share, rng(seed))[0, 0] / 200 for seed in range(40)]
    assert np.mean(left) == pytest.approx(1 - share, abs=0.03)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.4]))
@settings(max_examples=30, deadline=None)
def test_bias_field_is_a_second_order_polynomial_about_one(seed, strength):
    got = field((31, 45), strength, rng(seed)).astype(float)
    y, x = np.meshgrid(np.linspace(-1, 1, 31), np.linspace(-1, 1, 45), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2], -1).reshape(-1, 6)
    fitted = terms @ np.linalg.lstsq(terms, got.ravel(), rcond=None)[0]
    assert fitted == pytest.approx(got.ravel(), abs=1e-5)
    assert np.abs(got - 1).max() == pytest.approx(strength, abs=1e-5)
    assert got.mean() == pytest.approx(1, abs=0.03)


def test_bias_field_is_clipped():
    fields = np.stack([field((40, 40), 0.8, rng(seed)) for seed in range(20)])
    assert fields.min() == 0.5 and fields.max() == 1.5
    image = degrade(flat(100), Condition("bias", 4))
    assert image.min() >= 50 and image.max() <= 150 and (image.min() == 50 or image.max() == 150)


@pytest.mark.parametrize("shape", [(64, 80), (63, 81)])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_gibbs_leaves_the_centre_of_k_space_alone_and_the_rest_out(shape, share):
    image = RNG.integers(110, 140, shape, dtype=np.uint8)  # bright enough to stay positive
    before, after = (np.fft.fftshift(np.fft.fft2(x)) for x in (image, gibbs(image, share, rng())))
    # the samples whose frequency is within (1 - share) of the largest
    h, w = (np.abs(np.arange(n) - n // 2) <= (1 - share) * n / 2 + 1e-6 for n in shape)
    kept = h[:, None] & w
    assert kept.mean() == pytest.approx((1 - share) ** 2, abs=0.05)
    assert after[kept] == pytest.approx(before[kept], abs=0.05)
    assert np.abs(after[~kept]).max() < 0.05


def test_gibbs_rings_at_an_edge():
    edge = np.full((128, 128), 50, np.uint8)
    edge[:, 32:96] = 150
    ringing = degrade(edge, Condition("gibbs", 4)).astype(int)
    assert 105 <= ringing.max() - 50 <= 115  # Gibbs' overshoot is 9% of the step


def test_contrast_by_hand():
    image = np.array([[0, 100], [200, 100]], np.uint8)  # mean 100
    assert degrade(image, Condition("contrast", 4)).tolist() == [[50, 100], [150, 100]]
    assert degrade(image, Condition("contrast", 1)).tolist() == [[20, 100], [180, 100]]


@pytest.mark.parametrize("kind", ["motion", "gibbs", "contrast"])
def test_nothing_is_rescaled(kind):
    """A flat image has no edge, no movement and no contrast, whatever its brightness."""
    for value in (0, 7, 100, 255):
        for level in (1, 4):
            assert np.array_equal(degrade(flat(value, 40), Condition(kind, level)), flat(value, 40))


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]))), st.sampled_from(ALL)
)
@settings(max_examples=150, deadline=None)
def test_any_8_bit_image_will_do(image, condition):
    changed = degrade(image, condition)
    assert changed.dtype == np.uint8 and changed.shape == image.shape
    assert np.array_equal(changed, degrade(image.copy(), condition))


@pytest.mark.parametrize("image", [SLICE.astype(np.uint16), SLICE.astype(float), np.zeros((0, 4), np.uint8), SLICE[0]])
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match="8-bit image"):
        degrade(image, Condition("gibbs", 1))
