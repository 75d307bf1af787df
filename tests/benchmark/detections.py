"""Random findings for the tests of this folder: ground truth, and detections that are right, off, wrong or double."""

import numpy as np

from yolospine_ultra.evaluate.findings import ImageFindings


def make_findings(images=12, classes=4, seed=0, absent=()):
    """Ground truth and detections of as many images; classes in `absent` have no ground truth, only detections."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for i in range(images):
        n = int(rng.integers(0, 7))
        corner, size = rng.uniform(0, 200, (n, 2)), rng.uniform(20, 80, (n, 2))
        boxes, labels = np.concatenate([corner, corner + size], 1), rng.integers(0, classes, n)
        keep = ~np.isin(labels, absent)
        double = rng.random(n) < 0.3  # a second label on the same site
        second = (labels + 1) % classes
        double &= ~np.isin(second, absent)
        truth.append(
            ImageFindings(
                f"p{i // 2}_{i}.png",
                np.concatenate([boxes[keep], boxes[double]]),
                np.concatenate([labels[keep], second[double]]),
            )
        )
        guess = np.repeat(boxes, 2, 0) + rng.normal(0, 5, (2 * n, 4))
        guess = np.stack([*np.minimum(guess[:, :2], guess[:, 2:]).T, *np.maximum(guess[:, :2], guess[:, 2:]).T], 1)
        wrong = rng.random(2 * n) < 0.3
        named = np.where(wrong, rng.integers(0, classes, 2 * n), np.repeat(labels, 2))
        scores = np.round(rng.random(2 * n), 2)  # with equal ones
        found.append(ImageFindings(truth[-1].name, guess, named, scores))
    return truth, found
