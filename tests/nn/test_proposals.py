"""What stage 1 hands to stage 2: which anchor points, and what it says about a region."""

import pytest
import torch

from yolospine_ultra.nn.proposals import Proposals, agree, choose_anchors, evidence_of


def test_a_class_is_proposed_where_objectness_alone_leaves_it_out():
    objectness, classes = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.02, 0.01, 0.01, 0.5]]), torch.zeros(1, 2, 8)
    classes[0, 0], classes[0, 1, 5] = 0.9, 0.8
    # K = 4 has a place for each class: anchor 2 is the best of class 0 that is left, 5 the only one of class 1
    assert choose_anchors(objectness, classes, 4).tolist() == [[0, 1, 2, 5]]
    assert choose_anchors(objectness, classes, 3).tolist() == [[0, 1, 2]]  # no room
    assert choose_anchors(objectness, classes[:, :1], 4).tolist() == [[0, 1, 2, 3]]  # one class: by objectness


@pytest.mark.parametrize(("nc", "k"), [(1, 75), (6, 75), (13, 75), (37, 75), (80, 75), (6, 500)])
def test_proposals_are_as_many_as_asked_for_and_half_are_the_best(nc, k):
    torch.manual_seed(0)
    objectness, classes = torch.rand(2, 200), torch.rand(2, nc, 200).softmax(1)
    chosen = choose_anchors(objectness, classes, k)
    assert chosen.shape == (2, min(k, 200))
    half = min(k, 200) // 2
    assert torch.equal(chosen[:, :half], objectness.topk(half, 1).indices)
    found = objectness.gather(1, chosen)[:, : half + 1]
    assert (found.diff(dim=1) <= 0).all()


def test_anchor_points_of_equal_objectness_stay_in_reach_of_the_classes():
    """As half precision makes them: places of classes go to others than are taken already."""
    objectness, classes = torch.full((1, 200), 0.5), torch.full((1, 2, 200), 0.1)
    classes[0, 0, 150:160], classes[0, 1, 180:190] = 0.9, 0.8
    chosen = choose_anchors(objectness, classes, 20)[0]
    assert len(chosen.unique()) == 20
    assert set(chosen[12:16].tolist()) <= set(range(150, 160)) and set(chosen[16:].tolist()) <= set(range(180, 190))


def test_where_all_anchor_points_are_taken_each_is_once():
    objectness, classes = torch.rand(2, 21), torch.rand(2, 6, 21)
    assert choose_anchors(objectness, classes, 100).sort(1).values.tolist() == [list(range(21))] * 2


def test_proposals_of_an_object_agree_whatever_their_number():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40]]])
    logits, objectness = torch.tensor([[[1.0], [4], [9]]]), torch.tensor([[0.2, 0.4, 0.0]])
    assert agree(logits, boxes, objectness)[0, :, 0].tolist() == pytest.approx([3, 3, 9])


def test_evidence_is_that_of_the_proposal_which_overlaps_most():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 8]], [[50, 50, 60, 60], [0, 0, 4, 4]]])
    evidence = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    regions = torch.tensor([[0.0, 0, 10, 9.5], [0, 0, 10, 7.5], [0, 0, 10, 10], [50, 50, 60, 56], [0, 0, 3, 3]])
    proposals = Proposals(boxes, torch.ones(2, 2), evidence, torch.zeros(2, 2, dtype=torch.long))
    found = evidence_of(regions, torch.tensor([0, 0, 1, 1, 1]), proposals)
    # the third lies on a proposal of the other image; of the last two, one shares .6, the other 9/16
    assert found[:, 0].tolist() == [1, 2, 0, 3, 4]
