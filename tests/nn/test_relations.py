"""Class probabilities by what is declared about the classes."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolospine_ultra.nn.relations import ClassRelations, Facts, no_facts

TOGETHER = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])  # classes 0 and 2 are one finding
NOBODY = torch.zeros(3)
HALF = torch.tensor(0.5)
counts_of = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300)), min_size=1, max_size=5)


def relations(normal=NOBODY, together=TOGETHER):
    """Of classes 0 and 2, class 2 is more likely from three levels below on."""
    r = ClassRelations(3)
    slope, offset = torch.tensor([[0.0, -1], [0, 0], [0, 1]]), torch.tensor([3.0, 0, -3])
    r.declare(Facts(normal, together, slope, offset, torch.zeros(3, 3), HALF))
    return r


def test_nothing_declared_is_the_sigmoid():
    x = torch.randn(50, 3) * 20
    torch.testing.assert_close(ClassRelations(3)(x, torch.rand(50, 2) * 9), x.sigmoid(), atol=1e-6, rtol=1e-5)


def test_one_finding_at_two_levels_by_hand():
    # either is present with the mean of their logits, of .6; at two below the logits of the shares are 1 and -1
    logits = torch.tensor([[0.6, 0.7, 0.6]]).logit() + torch.tensor([[2.0, 0, -2]])
    share = 1 / (1 + torch.tensor(-2.0).exp())
    got = relations()(logits, torch.tensor([[9.0, 2]]))
    torch.testing.assert_close(got, torch.stack((0.6 * share, torch.tensor(0.7), 0.6 * (1 - share)))[None])


def test_what_is_normal_counts_against_the_others_by_hand():
    normal = torch.tensor([0.0, 1, 0])
    got = relations(normal, torch.eye(3))(torch.tensor([[2.0, -4, 0]]), torch.zeros(1, 2))
    torch.testing.assert_close(got, torch.tensor([[0.8 * 2 + 0.2 * 4, -4, 0.2 * 4]]).sigmoid())


def test_classes_that_share_a_box_do_not_count_against_each_other():
    r = ClassRelations(3)
    evidence = torch.tensor([0.5, 0.1, 0.4]).logit()
    torch.testing.assert_close(r.marginal(evidence), evidence)  # nothing shares a box: the softmax is right
    r.shared[0, 2] = 0.8  # of the boxes of class 0, four of five are also of class 2
    # .5 against .1 and a fifth of .4; the others as they were
    expected = torch.tensor([0.5 / (0.1 + 0.2 * 0.4), 0.1 / 0.9, 0.4 / 0.6]).log()
    torch.testing.assert_close(r.marginal(evidence), expected)


def test_stage_two_counts_as_much_as_it_was_taught():
    r, evidence, logits = ClassRelations(3), torch.tensor([0.5, 0.1, 0.4]).logit(), torch.tensor([4.0, 0, -4])
    torch.testing.assert_close(r.combine(evidence, logits), (evidence + logits) / 2)
    r.credibility.fill_(0.75)
    torch.testing.assert_close(r.combine(evidence, logits), 0.25 * evidence + 0.75 * logits)
    r.shared[0, 2] = 0.8  # stage 1 speaks by its marginals
    torch.testing.assert_close(r.combine(evidence, logits), 0.25 * r.marginal(evidence) + 0.75 * logits)


@given(st.lists(st.floats(-4.59, 4.59), min_size=3, max_size=3))
def test_evidence_stays_within_what_the_head_takes_for_most_sure(logits):
    r = ClassRelations(3)
    r.shared.fill_(1).fill_diagonal_(0)
    e = torch.tensor(logits)
    got = r.marginal(e)
    assert (got >= e - 1e-4).all() and (got <= torch.tensor(0.99 / 0.01).log() + 1e-4).all()


def test_labels_of_a_group_teach_all_of_it():
    labels = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[1, 1, 1], [0, 0, 0]]])
    assert relations().taught(labels).tolist() == [[[1, 0, 1], [0, 1, 0]], [[1, 1, 1], [0, 0, 0]]]
    assert torch.equal(ClassRelations(3).taught(labels), labels)


def test_a_checkpoint_that_was_taught_one_by_one_is_refused(tmp_path):
    r = relations()
    torch.save(copy.deepcopy(r).half(), tmp_path / "now.pt")
    assert torch.equal(torch.load(tmp_path / "now.pt", weights_only=False).together, TOGETHER.half())
    r.shared[0, 2] = 0.1  # of the boxes of one class a tenth were labelled with the other too
    torch.save(r, tmp_path / "before.pt")
    with pytest.raises(RuntimeError, match="taught classes of one finding one by one"):
        torch.load(tmp_path / "before.pt", weights_only=False)
    with pytest.raises(RuntimeError, match="taught classes of one finding one by one"):
        ClassRelations(3).load_state_dict(r.state_dict())


def test_a_group_is_one_finding_in_the_evidence():
    r = relations()
    r.shared[1, 0] = r.shared[1, 2] = 0.8  # of the boxes of class 1, four of five are of the group too
    joined = r.joined(torch.tensor([0.3, 0.5, 0.2]))
    torch.testing.assert_close(joined, torch.full((3,), 0.5))
    expected = torch.tensor([0.5 / 0.5, 0.5 / (0.2 * 0.5), 0.5 / 0.5]).log()
    torch.testing.assert_close(r.marginal(joined.logit()), expected)


def test_autocast_leaves_the_probabilities_in_single_precision():
    r, logits, counts = relations(), torch.tensor([[6.0, 7, 8]]), torch.tensor([[3.3, 2.7]])
    expected = r(logits, counts)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(r(logits, counts), expected) and expected.dtype == torch.float32


def test_groups_do_not_disturb_each_other():
    r = ClassRelations(4)
    pairs = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2))
    slope, offset = torch.tensor([[0.0, 5], [0, 5], [0, 0], [0, 0]]), torch.tensor([0.0, 0, -3, 3])
    r.declare(no_facts(4)._replace(together=pairs, slope=slope, offset=offset))
    shares = r.shares(torch.tensor([[0.0, 20]]))[0]
    assert shares.tolist() == pytest.approx([0.5, 0.5, 0.00247, 0.99753], abs=1e-4)


@given(counts_of)
def test_shares_of_a_group_sum_to_one_at_any_count(counts):
    got = relations().shares(torch.tensor(counts))
    assert (got >= 0).all() and got[:, 1].tolist() == [1.0] * len(counts)
    torch.testing.assert_close(got[:, 0] + got[:, 2], torch.ones(len(counts)))


@given(st.lists(st.floats(-200, 200), min_size=3, max_size=3), counts_of)
def test_probabilities_at_any_logit(logits, counts):
    x = torch.tensor([logits] * len(counts))
    for normal in (NOBODY, torch.tensor([0.0, 1, 0])):
        got = relations(normal)(x, torch.tensor(counts))
        assert got.isfinite().all() and (got >= 0).all() and (got <= 1).all()
