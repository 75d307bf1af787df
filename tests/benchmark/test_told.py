"""What a dataset declares, put on the findings of any detector."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toy
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from yolospine_ultra.benchmark.dataset import make_view, read_data
from yolospine_ultra.benchmark.families import ultralytics_family
from yolospine_ultra.benchmark.family import MAX_FINDINGS, MIN_SCORE, Budget
from yolospine_ultra.benchmark.specs import measure
from yolospine_ultra.benchmark.told import relations_of, tell
from yolospine_ultra.benchmark.zoo import rows
from yolospine_ultra.data.relations import Relations, fit_relations
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.nn.relations import ClassRelations, no_facts

DDD, NORMAL, LUMBAR, THORACIC = range(4)
COLUMN = np.array([[40.0, y, 80, y + 16] for y in range(10, 130, 20)])  # six discs, one below the other
NONE = ClassRelations(4)


def relations(**changes):
    made = ClassRelations(4)
    made.declare(no_facts(4)._replace(**changes))
    return made


def by_level():
    """Bulges of the two upper discs of a column are thoracic; fitted to twenty such columns."""
    boxes = np.concatenate(((COLUMN[:, :2] + COLUMN[:, 2:]) / 2, COLUMN[:, 2:] - COLUMN[:, :2]), 1) / 160
    label = {"cls": np.array([[THORACIC]] * 2 + [[LUMBAR]] * 4), "bboxes": boxes}
    made = ClassRelations(4)
    made.declare(fit_relations([label] * 20, Relations(None, [[LUMBAR, THORACIC]]), 4))
    return made


def table(found):
    """Scores by box and class."""
    rows = zip(found.boxes.tolist(), found.classes.tolist(), found.scores.tolist(), strict=True)
    return {(tuple(box), c): s for box, c, s in rows}


def test_nothing_declared_changes_nothing():
    found = ImageFindings("a.png", COLUMN[[0, 0, 1, 5]], [DDD, LUMBAR, NORMAL, DDD], [0.9, 0.8, 0.7, 0.002])
    told = tell(found, NONE, 0.7)
    assert table(told) == pytest.approx(table(found), abs=1e-6) and told.name == "a.png"


def test_a_bulge_gets_the_class_of_its_level_and_keeps_its_score():
    found = ImageFindings("a.png", np.repeat(COLUMN, 2, 0), [DDD, LUMBAR] * 6, [0.9, 0.8] * 6)
    scores = table(tell(found, by_level(), 0.7))
    for place, box in enumerate(map(tuple, COLUMN.tolist())):
        lumbar, thoracic = (scores.get((box, c), 0) for c in (LUMBAR, THORACIC))  # left out below `MIN_SCORE`
        assert lumbar + thoracic == pytest.approx(0.8, abs=MIN_SCORE)
        assert (thoracic > lumbar) == (place < 2)
        assert scores[box, DDD] == pytest.approx(0.9, abs=1e-6)


def test_the_best_of_a_group_stands_for_it_and_its_boxes_are_suppressed_together():
    near = COLUMN[:1] + np.array([0, 0, 1, 1])  # of IoU .9 and more
    found = ImageFindings("a.png", np.concatenate((COLUMN[:1], near)), [LUMBAR, THORACIC], [0.3, 0.6])
    together = torch.block_diag(torch.eye(2), torch.ones(2, 2))
    scores = table(tell(found, relations(together=together), 0.7))
    assert scores == pytest.approx({(tuple(near[0]), LUMBAR): 0.3, (tuple(near[0]), THORACIC): 0.3}, abs=1e-6)


def test_the_normal_class_counts_against_the_others_at_its_box():
    found = ImageFindings("a.png", COLUMN[[0, 0, 1]], [DDD, NORMAL, DDD], [0.6, 0.5, 0.6])
    scores = table(tell(found, relations(normal=torch.tensor([0.0, 1, 0, 0])), 0.7))
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731 - the formula of `nn.relations`, v = .2
    for box, normal in ((COLUMN[0], 0.5), (COLUMN[1], MIN_SCORE)):
        expected = 1 / (1 + np.exp(-(0.8 * logit(0.6) - 0.2 * logit(normal))))
        assert scores[tuple(box), DDD] == pytest.approx(expected, abs=1e-6)
    assert scores[tuple(COLUMN[0]), NORMAL] == pytest.approx(0.5, abs=1e-6)


def test_an_image_without_findings_stays_one():
    assert len(tell(ImageFindings("a.png", [], [], np.zeros(0)), by_level(), 0.7)) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.floats(0.0011, 1)), max_size=40))
def test_boxes_are_those_found_and_scores_are_scores(entries):
    places, classes, scores = zip(*entries, strict=True) if entries else ((), (), ())
    found = ImageFindings("a.png", COLUMN[list(places)], np.array(classes, int), np.array(scores))
    told = tell(found, by_level(), 0.7)
    assert len(told) <= MAX_FINDINGS and (np.diff(told.scores) <= 0).all() and (told.scores > MIN_SCORE).all()
    assert {b for b, _ in table(told)} <= set(map(tuple, COLUMN[list(places)].tolist()))
    assert all(told.scores[told.classes == c].max(initial=0) <= found.scores.max(initial=0) + 1e-6 for c in range(4))


def test_a_stock_row_is_told_what_the_training_labels_of_its_cell_say(tmp_path):
    file = Path(toy.write_patients(tmp_path / "set"))
    names = [str(n) for n in yaml.safe_load(file.read_text())["names"].values()]
    file.write_text(file.read_text() + yaml.safe_dump({"normal": names[2], "same_finding": [names[:2]]}))
    cell = make_view(read_data(str(file)), None, tmp_path / "view")
    made = relations_of(cell)
    assert made.normal.tolist() == [0, 0, 1] and made.together[0].tolist() == [1, 1, 0]
    detector = ultralytics_family.FAMILY.load(rows()["yolov8n-told"], None, cell, Budget(1, 64, 2, "cpu", 0))
    assert detector.relations.normal.tolist() == [0, 0, 1] and detector.module.model[-1].nc == 3
    (found,) = detector.detect(cell.val[:1])
    assert found.name == cell.val[0].name and len(found) <= MAX_FINDINGS
    assert set(found.classes.tolist()) <= {0, 1, 2} and (np.diff(found.scores) <= 0).all()


def test_what_a_row_costs_is_measured_without_data():
    assert measure([rows()["yolov8n-told"]], 64, 3, 1)["models"]["yolov8n-told"]["latency"]["median_ms"] > 0
