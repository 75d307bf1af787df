"""Counting of levels above and below a region: by hand, and as properties of a column with duplicates."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolospine_ultra.nn.order import level_shares, order_in_column


def boxes(*rows):
    """One image's boxes of x1, y1, x2, y2."""
    return torch.tensor(rows, dtype=torch.float32)[None]


DISCS = boxes([10, 0, 30, 10], [10, 20, 30, 30], [10, 40, 30, 50])


def test_by_hand():
    objectness = torch.tensor([[0.9, 0.6, 0.25]])
    # 0.25 is half as sure as an object that counts: half an object
    assert level_shares(DISCS, objectness).tolist() == [[1, 1, 0.5]]
    regions = boxes([10, 20, 30, 30], [10, 41, 30, 51], [10, 60, 30, 70])[0]
    order = order_in_column(regions, torch.zeros(3, dtype=torch.long), DISCS, objectness)
    assert order.tolist() == [[1, 0.5], [2, 0], [2.5, 0]]


def test_duplicates_share_one_level_by_their_objectness():
    pair = boxes([0, 0, 20, 10], [0, 0, 20, 12], [0, 10, 20, 30])  # the third begins where the first ends
    shares = level_shares(pair, torch.tensor([[0.9, 0.3, 0.8]]))
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0.25, 1.0]]))


def test_levels_are_counted_not_objects():
    """A disc, the narrowed canal behind it, the slipped vertebra around it; and a disc below."""
    column = boxes([10, 20, 30, 30], [32, 18, 38, 36], [8, 5, 32, 45], [10, 44, 30, 54])
    index, surely = torch.zeros(4, dtype=torch.long), torch.ones(1, 4)
    torch.testing.assert_close(level_shares(column, surely), torch.tensor([[1 / 3] * 3 + [1]]))
    order = order_in_column(column[0], index, column, surely)
    torch.testing.assert_close(order, torch.tensor([[0.0, 1], [0, 1], [0, 1], [1, 0]]))


def test_other_columns_and_other_images_are_not_counted():
    beside = boxes([10, 0, 30, 10], [100, 0, 120, 10])
    images = torch.cat((beside, beside + 500))
    region, surely = boxes([10, 50, 30, 60])[0], torch.ones(2, 2)
    assert order_in_column(region, torch.tensor([0]), images, surely).tolist() == [[1, 0]]
    assert order_in_column(region, torch.tensor([1]), images, surely).tolist() == [[0, 0]]


@pytest.mark.parametrize("objectness", [0.0, 1e-12])
def test_nothing_proposed_is_nothing_counted(objectness):
    order = order_in_column(DISCS[0], torch.zeros(3, dtype=torch.long), DISCS, torch.full((1, 3), objectness))
    assert order.isfinite().all() and order.max() < 1e-9


@given(
    objects=st.lists(st.tuples(st.integers(1, 6), st.floats(0.5, 1)), min_size=1, max_size=9),
    seed=st.integers(0, 1000),
)
def test_a_column_counts_its_objects_whatever_their_duplicates(objects, seed):
    torch.manual_seed(seed)
    column = torch.tensor([[20.0, 30 * i, 60, 30 * i + 15] for i, (n, _) in enumerate(objects) for _ in range(n)])
    best = torch.tensor([p for n, p in objects for _ in range(n)])
    first = torch.tensor([float(k == 0) for n, _ in objects for k in range(n)])
    objectness = best * (first + (1 - first) * torch.rand(len(best)))
    wiggled = column + torch.rand(len(column), 4) - 0.5
    regions = torch.tensor([[20.0, 30 * i, 60, 30 * i + 15] for i in range(len(objects))])
    index = torch.zeros(len(regions), dtype=torch.long)
    got = order_in_column(regions, index, wiggled[None], objectness[None])
    expected = torch.tensor([[i, len(objects) - 1 - i] for i in range(len(objects))], dtype=torch.float32)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@given(seed=st.integers(0, 1000), k=st.integers(1, 30), image=st.integers(0, 2))
def test_an_image_counts_the_same_alone_and_in_a_batch(seed, k, image):
    torch.manual_seed(seed)
    corner, objectness = torch.rand(3, k, 2) * 90, torch.rand(3, k)
    proposals = torch.cat((corner, corner + 1 + torch.rand(3, k, 2) * 30), 2)
    shares = level_shares(proposals, objectness)
    assert (shares >= 0).all() and (shares <= 1).all()
    together = order_in_column(proposals.flatten(0, 1), torch.arange(3).repeat_interleave(k), proposals, objectness)
    only = slice(image, image + 1)
    alone = order_in_column(proposals[image], torch.zeros(k, dtype=torch.long), proposals[only], objectness[only])
    torch.testing.assert_close(together.view(3, k, 2)[image], alone)
