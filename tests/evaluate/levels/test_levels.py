"""Disc levels: spines built from the profile with discs taken away, moved or made up; the report; the profile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.levels import assign as levels_module
from yolospine_ultra.evaluate.levels.assign import assign_levels
from yolospine_ultra.evaluate.levels.report import format_levels, level_report
from yolospine_ultra.evaluate.levels.spine_curve import find_places, fit_curve
from yolospine_ultra.evaluate.levels.spine_profile import (
    CUES,
    LEVELS,
    box_centres,
    default_profile,
    lean,
    measure_profile,
    profile_text,
    read_profile,
)

NAMES = ["DDD", "IVDn", "SS", "SP", "LDB", "TDB"]
DDD, IVDN, SS, SP, LDB, TDB = range(6)
UNIT, HEIGHT = 60.0, 512.0


def spine(count=7, unit=UNIT, height=HEIGHT):
    """Boxes of a typical patient's `count` lowest discs, lowest first, (count, 4)."""
    p = default_profile()
    centre = p.place[:count] * unit + [250, height - p.room[0] * unit]
    width = unit * np.exp(p.width[:count])
    size = np.stack([width, width * np.exp(p.aspect[:count])], 1)
    return np.concatenate([centre - size / 2, centre + size / 2], 1)


def image(boxes, classes=IVDN, scores=None, name="a.png"):
    boxes = np.asarray(boxes, dtype=float)
    return ImageFindings(name, boxes, np.full(len(boxes), classes) if np.isscalar(classes) else classes, scores)


def given_levels(findings, **options):
    return list(assign_levels(findings, NAMES, **options).levels)


def test_every_disc_of_a_whole_spine_has_its_level():
    for count in range(2, 10):
        assert given_levels(image(spine(count)), height=HEIGHT) == list(LEVELS[:count])
    found = assign_levels(image(spine(7)), NAMES, HEIGHT)
    assert found.missed == () and found.support > 0.9


@pytest.mark.parametrize("gone", [(0,), (1,), (3,), (5,), (6,), (0, 1), (0, 3), (2, 3), (1, 4), (3, 5)])
def test_numbering_survives_missed_discs(gone):
    kept = [k for k in range(7) if k not in gone]
    found = assign_levels(image(spine(7)[kept]), NAMES, HEIGHT)
    assert list(found.levels) == [LEVELS[k] for k in kept]
    assert set(found.missed) == {LEVELS[k] for k in gone if kept[0] < k < kept[-1]}


def test_lowest_disc_is_told_by_the_tilt_without_the_images_edge():
    assert given_levels(image(spine(7)[1:])) == list(LEVELS[1:7])
    assert given_levels(image(spine(7))) == list(LEVELS[:7])


def test_findings_at_one_place_are_one_disc():
    boxes = spine(6)
    moved = boxes + np.array([6, -5, 8, 4])  # another finding of the same disc, drawn otherwise
    thin = boxes[2] + np.array([0, 9, 0, -6])  # IoU below .5, but centre close along the spine
    both = image(np.concatenate([boxes, moved, thin[None]]), [IVDN] * 6 + [LDB] * 6 + [DDD])
    assert given_levels(both, height=HEIGHT) == [*LEVELS[:6], *LEVELS[:6], LEVELS[2]]
    assert find_places(both.boxes).tolist() == [*range(6), *range(6), 2]


def test_findings_beside_a_disc_take_the_level_they_lie_at():
    boxes, width = spine(7), 62
    canal = boxes[[0, 2, 3]] + [0.7 * width, -10, 0.6 * width, 10]
    slip = boxes[4] + [0, -25, 0, 25]
    kept = [0, 1, 2, 4, 5, 6]  # the disc L2/L3 was missed, its stenosis was found
    every = image(np.concatenate([boxes[kept], canal, slip[None]]), [IVDN] * 6 + [SS] * 3 + [SP])
    found = assign_levels(every, NAMES, HEIGHT)
    assert list(found.levels[6:]) == [LEVELS[0], LEVELS[2], LEVELS[3], LEVELS[4]]
    assert found.missed == (LEVELS[3],)
    far = image(np.concatenate([boxes, boxes[:1] + np.array([0, 150, 0, 150])]), [IVDN] * 7 + [SS])
    assert given_levels(far, height=HEIGHT)[-1] is None


def test_findings_beside_carry_the_order_where_there_is_no_disc():
    assert given_levels(image(spine(6) + np.array([0, -20, 0, 20]), SP), height=HEIGHT) == list(LEVELS[:6])


def test_box_in_the_belly_changes_nothing():
    boxes = spine(7)
    for stray in ([20, 150, 80, 180], [10, 400, 70, 430], [30, 20, 90, 40]):
        found = given_levels(image([*boxes, stray]), height=HEIGHT)
        assert found == [*LEVELS[:7], None]


def test_rest_of_the_sacral_disc_is_no_lumbar_disc():
    boxes = spine(7)
    x, y = box_centres(boxes[:1])[0] + [45, 55]
    sacral = [x - 14, y - 10, x + 14, y + 10]
    scores = np.array([0.8] * 7 + [0.3])
    assert given_levels(image([*boxes, sacral], scores=scores), height=HEIGHT) == [*LEVELS[:7], None]
    # a label is a person's word: it is taken for a disc
    assert given_levels(image([*boxes, sacral]), height=HEIGHT)[-1] is not None


def test_more_places_than_levels_stay_without_one():
    boxes = np.array([[100, 800 - 50 * k, 160, 825 - 50 * k] for k in range(14)], dtype=float)
    found = assign_levels(image(boxes), NAMES)
    assert found.levels[:12] == LEVELS and found.levels[12:] == (None, None)


def test_nothing_one_box_and_classes_without_a_level():
    nothing = assign_levels(image(np.zeros((0, 4)), np.zeros(0, int)), NAMES, HEIGHT)
    assert (nothing.levels, nothing.missed, nothing.support) == ((), (), None)
    assert given_levels(image(spine(1)), height=HEIGHT) == ["L5/S1"]
    alone = assign_levels(image(spine(3)[2:]), NAMES, HEIGHT)  # one disc can be anything, and says so
    assert alone.support < assign_levels(image(spine(1)), NAMES, HEIGHT).support and alone.support < 0.9
    body = ImageFindings("a", np.concatenate([spine(5), [[200, 0, 300, 500]]]), [0] * 5 + [1])
    assert assign_levels(body, ["IVD", "VB"], HEIGHT).levels == (*LEVELS[:5], None)
    only = assign_levels(ImageFindings("a", [[200, 0, 300, 500]], [1]), ["IVD", "VB"], HEIGHT)
    assert only.levels == (None,) and only.support is None
    with pytest.raises(ValueError, match="the classes car, dog have no disc level"):
        assign_levels(image(spine(2), 0), ["car", "dog"])
    flat = ImageFindings("a", [[5, 5, 5, 5], [5, 90, 5, 90]], [0, 0])  # boxes without area
    assert len(assign_levels(flat, NAMES, 100).levels) == 2


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(7)), st.floats(0.3, 4), st.floats(-500, 500), st.integers(0, 6))
def test_order_size_and_place_do_not_matter(order, scale, right, gone):
    kept = [k for k in order if k != gone]
    boxes = spine(7)[kept] * scale + [right, 0, right, 0]
    assert given_levels(image(boxes), height=HEIGHT * scale) == [LEVELS[k] for k in kept]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 400)] * 2, *[st.floats(0, 80)] * 2, st.integers(0, 5)), max_size=14))
def test_levels_never_fall_towards_the_head(rows):
    """Whatever the boxes: one answer each, and discs of higher levels lie higher along the spine."""
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows]).reshape(-1, 4)
    classes = np.array([r[4] for r in rows], dtype=int)
    found = assign_levels(ImageFindings("a", boxes, classes), NAMES, 480)
    assert len(found.levels) == len(rows) and set(found.levels) <= {*LEVELS, None}
    disc = np.isin(classes, [DDD, IVDN, LDB, TDB])
    if disc.any():
        place = find_places(boxes[disc])
        level = np.array([LEVELS.index(x) if x else -1 for x in np.array(found.levels, object)[disc]])
        pairs = sorted(set(zip(place[place >= 0].tolist(), level[place >= 0].tolist(), strict=True)))
        numbered = [v for _, v in pairs if v >= 0]
        assert numbered == sorted(set(numbered)) and 0 < found.support <= 1


def test_cues_are_students_t():
    z = np.linspace(-5, 5, 11)
    expected = student.logpdf(z, 4) - student.logpdf(0, 4)
    np.testing.assert_allclose(levels_module._log_t(z), expected)


def test_curve_is_not_bent_by_a_stray_box_and_is_straight_beyond_its_ends():
    y = np.linspace(0, 400, 9)
    centres = np.stack([100 + 0.0005 * (y - 200) ** 2, y], 1)
    clean = fit_curve(centres, 60)
    assert clean.project(centres)[1].max() < 2
    stray = fit_curve(np.concatenate([centres, [[20, 210]]]), 60)
    assert stray.project(centres)[1].max() < 8
    ends = np.diff(clean.points[:20], axis=0)
    np.testing.assert_allclose(ends, np.broadcast_to(ends[0], ends.shape))
    straight = fit_curve(np.array([[10.0, 0], [10, 100]]), 20)
    np.testing.assert_allclose(np.diff(straight.project(np.array([[10.0, 100], [13, 0]]))[0]), 100, atol=1)


# the profile


def test_profile_is_what_it_was_measured_from(tmp_path):
    made = measure_profile([(spine(9), list(LEVELS[:9]), HEIGHT)] * 12)
    shipped = default_profile()
    for cue in CUES:
        last = {"step": 8, "angle": 8, "room": 6}.get(cue, 9)  # images that show more discs show less below
        np.testing.assert_allclose(getattr(made, cue)[:last], getattr(shipped, cue)[:last], rtol=0.01, atol=0.02)
        assert (made.spread[cue] < 1e-9).all()
    assert made.discs.tolist() == [12] * 9 + [0] * 3
    np.testing.assert_allclose(made.aspect[9:], made.aspect[8])
    file = tmp_path / "profile.csv"
    file.write_text(profile_text(shipped))
    again = read_profile(file)
    assert profile_text(again) == profile_text(shipped)


def test_profile_needs_whole_spines_and_whole_files(tmp_path):
    with pytest.raises(ValueError, match="9 images show"):
        measure_profile([(spine(7), list(LEVELS[:7]), HEIGHT)] * 9 + [(spine(5), list(LEVELS[:5]), HEIGHT)] * 9)
    with pytest.raises(FileNotFoundError, match="levels fit"):
        read_profile(tmp_path / "none.csv")
    lines = profile_text(default_profile()).splitlines()
    for text, message in (
        ("\n".join(lines[:5]), "has the levels"),
        ("\n".join([lines[0].replace("angle_sd", "x"), *lines[1:]]), "no column angle_sd"),
        ("\n".join([*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",many"]), "is no profile"),
        ("\n".join([*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",0"]), "must be above 0"),
        ("\n".join([*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",nan"]), "every number finite"),
    ):
        file = tmp_path / "bad.csv"
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_profile(file)


def test_lean_is_degrees_to_the_front():
    np.testing.assert_allclose(lean(np.array([[0, -1], [-1, -1], [1, -1]])), [0, 45, -45])


# the report


def test_report_groups_by_level():
    boxes = spine(4)
    rows = np.concatenate([boxes[[0, 1, 3]], boxes[[1]] + 1, boxes[[1]] + 2, [[400, 10, 420, 20]]])
    findings = image(rows, [IVDN, LDB, IVDN, DDD, LDB, SS], np.array([0.9, 0.8, 0.9, 0.7, 0.6, 0.5]))
    report = level_report(findings, NAMES, assign_levels(findings, NAMES, HEIGHT))
    assert report["levels"] == {"L2/L3": ["IVDn"], "L4/L5": ["DDD", "LDB"], "L5/S1": ["IVDn"]}
    assert list(report["levels"]) == ["L2/L3", "L4/L5", "L5/S1"]
    assert (report["missed"], report["without_level"]) == (["L3/L4"], ["SS"])
    assert report["findings"][3] == {"class": "DDD", "level": "L4/L5", "box": rows[3].tolist(), "score": 0.7}
    lines = format_levels(report).splitlines()
    assert lines[:5] == ["a.png", "  L2/L3: IVDn", "  L3/L4: no disc found", "  L4/L5: DDD, LDB", "  L5/S1: IVDn"]
    assert lines[-1] == "  without a level: SS"
    with pytest.raises(ValueError, match="6 findings, but 4 levels"):
        level_report(findings, NAMES, assign_levels(image(boxes), NAMES))


def test_report_of_nothing_and_of_doubt():
    empty = image(np.zeros((0, 4)), np.zeros(0, int))
    assert format_levels(level_report(empty, NAMES, assign_levels(empty, NAMES))) == "a.png\n  no disc found"
    one = image(spine(5)[3:])
    doubtful = assign_levels(one, NAMES)
    assert doubtful.support < 0.9
    assert "numbering uncertain" in format_levels(level_report(one, NAMES, doubtful))
