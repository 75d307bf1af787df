import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolospine_ultra.data.splits import (
    HASH_LIMIT,
    find_leaks,
    image_hash,
    link_groups,
    similar_pairs,
    split_groups,
)

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def picture(seed, size=96):
    """Smooth random blobs, so that a hash says something."""
    rough = np.random.default_rng(seed).random((12, 12)).astype(np.float32)
    return (cv2.resize(rough, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


def test_classes_and_images_come_close_to_the_shares():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(400), rng.integers(1, 4, 400))
    rare = rng.random(len(patients)) < 0.04
    counts = np.stack([rng.poisson(4, len(patients)), rng.poisson(1, len(patients)), rare], 1)
    splits = np.array(split_groups(patients.tolist(), counts, SHARES, seed=3))
    for split, share in SHARES.items():
        inside = splits == split
        assert inside.mean() == pytest.approx(share, abs=0.02)
        np.testing.assert_allclose(counts[inside].sum(0) / counts.sum(0), share, atol=0.035)
    assert all(len(set(splits[patients == p])) == 1 for p in range(400))


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.integers(0, 2**31),
    st.sampled_from([SHARES, {"train": 1.0}, {"a": 0.5, "b": 0.5}]),
)
@settings(max_examples=60, deadline=None)
def test_groups_stay_whole_and_no_split_is_needlessly_empty(groups, seed, shares):
    counts = np.random.default_rng(seed).integers(0, 3, (len(groups), 2))
    splits = split_groups(groups, counts, shares, seed)
    assert splits == split_groups(groups, counts, shares, seed)
    where = {g: {s for s, h in zip(splits, groups, strict=True) if h == g} for g in groups}
    assert all(len(w) == 1 for w in where.values())
    assert len(set(splits)) == min(len(shares), len(where))


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.5, "val": -0.5}])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="shares"):
        split_groups(["a"], np.zeros((1, 1)), shares)


def test_counts_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 images"):
        split_groups(["a", "b"], np.zeros((3, 1)), SHARES)


def test_a_copy_is_recognised_and_another_picture_is_not():
    image = picture(1)
    copies = [
        cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0),
        cv2.resize(image, (60, 60), interpolation=cv2.INTER_AREA),
        (255 * (image / 255) ** 0.8).astype(np.uint8),
        np.repeat(image[..., None], 3, -1),
    ]
    hashes = [image_hash(i) for i in (image, *copies, picture(2))]
    assert {(i, j) for i, j, _ in similar_pairs(hashes)} == {(i, j) for i in range(5) for j in range(i + 1, 5)}


def test_similar_pairs_against_a_plain_loop():
    rng = np.random.default_rng(5)
    hashes = [rng.integers(0, 256, 32).astype(np.uint8) for _ in range(30)]
    for k in range(0, 20, 2):
        hashes[k + 1] = hashes[k].copy()
        hashes[k + 1][: k // 2] ^= 255
    hashes[7] = None
    expected = []
    for i in range(30):
        for j in range(i + 1, 30):
            if i != 7 and j != 7:
                bits = sum(bin(a ^ b).count("1") for a, b in zip(hashes[i].tolist(), hashes[j].tolist(), strict=True))
                expected += [(i, j, bits)] if bits <= HASH_LIMIT else []
    assert similar_pairs(hashes) == expected and len(expected) == 3


def test_an_image_without_structure_has_no_hash():
    assert image_hash(np.full((40, 40), 90, np.uint8)) is None
    assert similar_pairs([None, None]) == []


def test_links_are_transitive():
    assert link_groups(["a", "b", "c", "d", "b"], [(0, 1, 3), (2, 4, 0)]) == ["a", "a", "a", "d", "a"]


def test_leaks_name_the_patient_and_the_look_alike():
    names, splits, patients = ["a", "b", "c", "d"], ["train", "val", "val", "train"], ["1", "1", "2", "3"]
    hashes = [image_hash(picture(k)) for k in (1, 2, 3, 3)]
    leaks = find_leaks(names, splits, patients, hashes)
    assert [(leak.kind, leak.splits) for leak in leaks] == [("patient", ("train", "val")), ("image", ("train", "val"))]
    assert str(leaks[0]) == "patient in train and val: patient 1: a (train), b (val)"
    assert "c (val) and d (train) differ in 0 of 256 bits" in str(leaks[1])
    assert find_leaks(names, ["train"] * 4, patients, hashes) == []


def test_no_two_patients_of_the_real_set_look_alike(spider):
    files = sorted((spider / "images").glob("*/*.png"))
    hashes = [image_hash(cv2.imread(str(f), 0)) for f in files]
    pairs = [(files[i].name, files[j].name) for i, j, _ in similar_pairs(hashes)]
    assert all(a.split("_")[0] == b.split("_")[0] for a, b in pairs)
    assert len(pairs) > 3  # neighbouring slices of one patient are found
