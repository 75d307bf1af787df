"""Tests of one phantom slice: labels that agree with the anatomy, masks that agree with the boxes, usable pictures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yolospine_ultra.data.phantom.anatomy import build_anatomy
from yolospine_ultra.data.phantom.canvas import Frame
from yolospine_ultra.data.phantom.dataset import plan_patients
from yolospine_ultra.data.phantom.patient import BULGE_MM, RANKS, SLIP_MM, STENOSIS_FRACTION, THORACIC_LEVELS
from yolospine_ultra.data.phantom.slices import (
    DDD,
    IVDN,
    LDB,
    SP,
    SS,
    TDB,
    anatomy_mask,
    classes_of,
    generate_slice,
    meyerding_grade,
    read_findings,
    sample_patient,
)
from yolospine_ultra.data.phantom.tissue import SEQUENCES


def patients(count, start=0):
    return [sample_patient(np.random.default_rng(start + k)) for k in range(count)]


def findings_of(patient, offset=0.0):
    anatomy = build_anatomy(patient, offset)
    return anatomy, read_findings(anatomy, Frame.of(anatomy, 384))


def with_disc(patient, level, **state):
    discs = tuple(replace(d, **state) if d.level == level else d for d in patient.discs)
    return replace(patient, discs=discs)


def test_a_normal_disc_carries_no_other_disc_label():
    for patient in patients(60):
        anatomy = build_anatomy(patient)
        for disc in anatomy.discs:
            if not disc.labelled:
                continue
            classes = classes_of(anatomy, disc)
            assert (IVDN in classes) != bool({DDD, LDB, TDB} & set(classes))
            assert (TDB in classes) <= (disc.state.level in THORACIC_LEVELS)
            assert (LDB in classes) <= (disc.state.level not in THORACIC_LEVELS)


@pytest.mark.parametrize(
    ("state", "class_id"),
    [
        ({"wear": 3.01}, DDD),
        ({"bulge_mm": BULGE_MM + 0.01}, LDB),
        ({"narrowing": STENOSIS_FRACTION + 0.01}, SS),
        ({"slip_fraction": 0.2}, SP),
    ],
)
def test_each_state_brings_its_label_and_no_other(state, class_id):
    healthy = {"wear": 1.0, "height_factor": 1.0, "bulge_mm": 0.0, "bulge_shift": 0.0, "narrowing": 0.0}
    patient = with_disc(patients(1)[0], "L3/L4", **healthy, slip_fraction=0.0)

    def classes(p):
        return {f.class_id for f in findings_of(p)[1] if f.level == "L3/L4"}

    assert classes(patient) == {IVDN}
    disc_class = {class_id} if class_id in (DDD, LDB) else {IVDN, class_id}
    assert classes(with_disc(patient, "L3/L4", **state)) == disc_class


def test_boundary_cases_exist():
    """Severities are continuous through the thresholds: near every one there are discs on both sides."""
    anatomies = [build_anatomy(p) for p in patients(150)]
    discs = [(a, d) for a in anatomies for d in a.discs if d.labelled]
    measures = {
        "bulge": [d.bulge_mm / BULGE_MM for _, d in discs],
        "wear": [d.state.wear / 3 for _, d in discs],
        "narrowing": [a.canal.narrowing(d.state.level) / STENOSIS_FRACTION for a, d in discs],
    }
    for name, values in measures.items():
        values = np.array(values)
        assert ((values > 0.85) & (values < 1)).sum() > 5 < ((values > 1) & (values < 1.15)).sum(), name


def test_slip_is_measured_on_the_anatomy():
    slipped = 0
    for patient in patients(120):
        anatomy, findings = findings_of(patient)
        for finding in findings:
            assert (finding.slip_mm >= SLIP_MM) == (finding.class_id == SP) == (finding.meyerding > 0)
            if finding.class_id == SP:
                slipped += 1
                upper, lower = (anatomy.body(n) for n in finding.level.split("/"))
                axis = lower.upper[-1] - lower.upper[0]
                fraction = (lower.upper[-1] - upper.lower[-1]) @ axis / (axis @ axis)
                # The backs of the two plates differ a little in the healthy spine too.
                assert fraction == pytest.approx(finding.slip_mm / np.linalg.norm(axis), abs=0.12)
    assert slipped


@pytest.mark.parametrize(("slip", "grade"), [(0, 0), (1, 1), (9.9, 1), (10, 2), (19.9, 2), (20, 3), (30, 4), (50, 4)])
def test_meyerding_grade_counts_quarters_of_the_end_plate(slip, grade):
    assert meyerding_grade(slip, 40.0) == grade


def test_meyerding_grade_refuses_nonsense():
    for slip, plate in ((-1, 40), (1, 0)):
        with pytest.raises(ValueError, match="end-plate"):
            meyerding_grade(slip, plate)


def test_narrowed_stretch_lies_around_its_level_and_nothing_near_it_is_as_narrow_outside():
    for patient in patients(40):
        canal = build_anatomy(patient).canal
        for level, i in canal.at.items():
            if canal.narrowing(level) >= STENOSIS_FRACTION:
                start, stop = canal.narrowed(level, 0.5)
                assert start <= i < stop
                inside, least = canal.loss()[start:stop], 0.5 * canal.narrowing(level)
                assert (inside >= least).all()
                assert start == 0 or canal.loss()[start - 1] < least
                assert stop == len(canal.line) or canal.loss()[stop] < least


def test_bulge_box_reaches_further_back_than_the_box_of_the_worn_disc():
    checked = 0
    for patient in patients(150):
        boxes = {(f.level, f.class_id): f.box for f in findings_of(patient)[1]}
        for (level, class_id), box in boxes.items():
            # On a steep disc a rim of the lower body may lie further back still.
            if class_id == LDB and (level, DDD) in boxes and level in ("L2/L3", "L3/L4") and (level, SP) not in boxes:
                checked += 1
                worn = boxes[level, DDD]
                assert box[2] > worn[2]
    assert checked


@given(seed=st.integers(0, 2**32 - 1), offset=st.floats(-8, 8))
@settings(max_examples=20, deadline=None)
def test_box_is_the_outline_with_a_margin(seed, offset):
    anatomy = build_anatomy(sample_patient(np.random.default_rng(seed)), offset)
    frame = Frame.of(anatomy, 256)
    for finding in read_findings(anatomy, frame):
        points = np.concatenate(finding.outlines)
        corners = np.concatenate([points.min(0) - 2.5 / frame.mm_per_px, points.max(0) + 2.5 / frame.mm_per_px])
        assert finding.box == pytest.approx(tuple(corners.clip(0, 256)))


def test_mask_counts_bodies_and_discs_from_below_as_spider_does():
    anatomy = build_anatomy(patients(1)[0])
    frame = Frame.of(anatomy, 512)
    mask = anatomy_mask(anatomy, frame)
    for label, name in ((1, "L5"), (2, "L4"), (6, "T12")):
        x, y = frame.to_px(anatomy.body(name).centre[None])[0].astype(int)
        assert mask[y, x] == label
    for k, disc in enumerate(anatomy.discs[:5]):
        x, y = frame.to_px(disc.plain.mean(0)[None])[0].astype(int)
        assert mask[y, x] == 201 + k
    sac = anatomy.canal.edge((anatomy.canal.front + anatomy.canal.back) / 2)[anatomy.canal.at["L2/L3"]]
    x, y = frame.to_px(sac[None])[0].astype(int)
    assert mask[y, x] == 100


def sampled(patient, sequence, points):
    """Mean grey of a patient's slice around points in mm."""
    anatomy = build_anatomy(patient)
    image = generate_slice(patient, sequence, 0.0, 384, np.random.default_rng(0)).image
    pixels = Frame.of(anatomy, 384).to_px(points).astype(int)
    return float(np.mean([image[y - 1 : y + 2, x - 1 : x + 2].mean() for x, y in pixels]))


def test_fluid_is_bright_on_t2_and_dark_on_t1():
    for patient in patients(3):
        patient = replace(patient, conus_mm=-10.0)
        canal = build_anatomy(patient).canal
        i = (canal.at["L2/L3"] + canal.at["L3/L4"]) // 2
        spot = canal.edge(0.8 * canal.front + 0.2 * canal.back, i, i + 1)
        t1, t2, space = (sampled(patient, s, spot) for s in SEQUENCES)
        assert min(t2, space) > 2 * t1


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_stenosis_can_be_seen(sequence):
    """The narrowed sac leaves fluid's grey where the free sac has it: also where fluid is dark."""
    changed = []
    for patient in patients(4):
        free, narrow = (with_disc(patient, "L3/L4", bulge_mm=b, narrowing=n) for b, n in ((0.0, 0.0), (5.0, 0.6)))
        canal = build_anatomy(free).canal
        i = canal.at["L3/L4"]
        spots = np.stack([canal.edge(canal.front + f * canal.depth, i, i + 1)[0] for f in (0.12, 0.2, 0.9)])
        changed.append(abs(sampled(free, sequence, spots) - sampled(narrow, sequence, spots)))
    assert np.median(changed) > 8


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sequence=st.sampled_from(SEQUENCES),
    offset=st.floats(-8, 8),
    size=st.sampled_from([64, 131, 256]),
)
@example(seed=4835, sequence="t1", offset=0.0, size=64)  # was white from belly to back
def test_any_slice_is_a_usable_picture(seed, sequence, offset, size):
    made = generate_slice(
        sample_patient(np.random.default_rng(seed)), sequence, offset, size, np.random.default_rng(seed)
    )
    assert made.image.dtype == made.mask.dtype == np.uint8 and made.image.shape == made.mask.shape == (size, size)
    assert 8 < made.image.mean() < 200 and made.image.std() > 15
    assert (made.image == 255).mean() < 0.45
    assert len(made.findings) >= 4
    for finding in made.findings:
        x1, y1, x2, y2 = finding.box
        assert 0 <= x1 < x2 <= size and 0 <= y1 < y2 <= size
        assert 1 <= finding.pfirrmann <= 5
        # Neither a cropped field of view nor a saturation band hides what is labelled.
        assert made.image[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].std() > 3


def test_findings_do_not_depend_on_the_acquisition():
    patient = patients(1)[0]
    first, second = (generate_slice(patient, "t2", 0.0, 128, np.random.default_rng(k)) for k in (1, 2))
    assert first.findings == second.findings and (first.image != second.image).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"sequence": "flair"}, "flair"), ({"size": 10}, "64 to 1024"), ({"slice_offset_mm": 20.0}, "-8 to 8")],
)
def test_slice_refuses_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        generate_slice(patients(1)[0], **kwargs)


@pytest.mark.parametrize("ranks", [[0.5], [0.5] * (RANKS - 1) + [1.5], [float("nan")] * RANKS])
def test_patient_refuses_bad_ranks(ranks):
    with pytest.raises(ValueError, match="ranks"):
        sample_patient(np.random.default_rng(0), ranks)


def test_a_stenosis_over_two_levels_is_one_finding():
    plan = plan_patients(1038, 0)[192]
    anatomy = build_anatomy(plan.patient, plan.shots[0].offset_mm)
    narrow = [d.state.level for d in anatomy.discs if d.labelled and SS in classes_of(anatomy, d)]
    assert {"L5/S1", "L4/L5"} <= set(narrow)  # read off one stretch of the sac
    seen = [(f.class_id, f.box) for f in read_findings(anatomy, Frame.of(anatomy, 384))]
    assert len(seen) == len(set(seen))
