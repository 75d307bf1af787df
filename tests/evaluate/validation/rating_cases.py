"""Findings for the tests of raters: hand-made images, and random ones in which predictions are right, off or wrong."""

import numpy as np
from hypothesis import strategies as st

from yolospine_ultra.evaluate.findings import ImageFindings


def image(*rows, name="a", scored=False):
    """Findings from rows of (class, x1, y1, x2, y2), or with a score behind; `scored` tells where there are none."""
    table = np.array(rows, dtype=float).reshape(len(rows), -1) if rows else np.zeros((0, 6 if scored else 5))
    return ImageFindings(name, table[:, 1:5], table[:, 0], table[:, 5] if table.shape[1] == 6 else None)


@st.composite
def rated(draw, classes=3, images=5, patients=None):
    """Truth and predictions of some images, several labels on one site among them; scores often equal."""
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, images))
    return random_pair(np.random.default_rng(seed), count, classes, patients or count)


def random_pair(rng, count, classes=3, patients=4):
    """`count` images of at most `patients` patients: truth, predictions."""
    truth, found = [], []
    for i in range(count):
        n = int(rng.integers(0, 5))
        corner, size = rng.integers(0, 60, (n, 2)), rng.integers(10, 30, (n, 2))
        site = np.concatenate([corner, corner + size], 1).astype(float)
        kinds = [rng.permutation(classes)[: rng.integers(1, 3)] for _ in range(n)]  # no label twice at one place
        sites, labels = np.repeat(site, [len(k) for k in kinds], 0), np.concatenate([*kinds, []])
        name = f"p{i % patients}_{i}.png"
        truth.append(ImageFindings(name, sites, labels))
        guess = np.repeat(sites, rng.integers(0, 3, len(sites)), 0)
        guess = guess + np.tile(rng.integers(-3, 4, (len(guess), 2)), 2)
        called = rng.integers(0, classes, len(guess))
        found.append(ImageFindings(name, guess, called, rng.integers(0, 11, len(guess)) / 10))
    return truth, found


def plain_iou(a, b):
    """IoU of two boxes in plain Python."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union else 0.0
