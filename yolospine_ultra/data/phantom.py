"""One slice of the spine phantom: a drawn patient in, a grey picture and its labelled findings out.

Written for this project. The disease states deform the anatomy (`phantom_anatomy`), this file reads every box off the
deformed shapes, and `phantom_render` gives the same shapes their grey values; a box can therefore never disagree with
what is seen. Classes: 0 DDD, 1 IVDn, 2 SS, 3 SP, 4 LDB, 5 TDB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolospine_ultra.data.phantom_anatomy import Anatomy, Disc, build_anatomy
from yolospine_ultra.data.phantom_patient import LEVELS, THORACIC_LEVELS, DiscState, Patient, sample_patient
from yolospine_ultra.data.phantom_render import SEQUENCES, Frame, render

__all__ = (
    "CLASS_NAMES",
    "LEVELS",
    "SEQUENCES",
    "Finding",
    "Patient",
    "PhantomSlice",
    "classes_of",
    "generate_slice",
    "meyerding_grade",
    "read_findings",
    "sample_patient",
)

CLASS_NAMES = ("DDD", "IVDn", "SS", "SP", "LDB", "TDB")
DDD, IVDN, SS, SP, LDB, TDB = range(6)

# Annotators draw boxes a little outside the structure; with this margin a stenosis box and the bulge box in front of
# it overlap by an IoU of roughly 0.18.
_MARGIN_MM = 2.9
_MIN_VISIBLE = 0.55  # a finding is labelled where at least this share of its box lies inside the image


@dataclass(frozen=True)
class Finding:
    """One labelled box.

    Attributes:
        class_id: index into `CLASS_NAMES`.
        box: x1, y1, x2, y2 in pixels, inside the image.
        level: disc level, one of `LEVELS`.
        pfirrmann: Pfirrmann grade of the disc at that level, 1 to 5.
        slip_mm: forward slip, mm; above 0 exactly for class SP.
        meyerding: Meyerding grade 1 to 4 for class SP, otherwise 0.
    """

    class_id: int
    box: tuple[float, float, float, float]
    level: str
    pfirrmann: int
    slip_mm: float = 0.0
    meyerding: int = 0


@dataclass(frozen=True)
class PhantomSlice:
    """A rendered slice: `image` is uint8 (size, size), `mm_per_px` its pixel size, `findings` its labels."""

    image: np.ndarray
    findings: list[Finding]
    sequence: str
    mm_per_px: float


def classes_of(state: DiscState) -> list[int]:
    """Class IDs a disc state is labelled with, at least one where the disc is in view, in ascending order."""
    classes = []
    if state.degenerated:
        classes.append(DDD)
    if state.bulging:
        classes.append(TDB if state.level in THORACIC_LEVELS else LDB)
    if not classes:
        classes.append(IVDN)
    if state.stenosed:
        classes.append(SS)
    if state.slipped:
        classes.append(SP)
    return sorted(classes)


def meyerding_grade(slip_mm: float, plate_mm: float) -> int:
    """Meyerding grade of a slip: 0 none, 1 below a quarter of the end-plate, 2 below half, 3 below 3/4, 4 beyond.

    Raises:
        ValueError: the end-plate length is not positive or the slip is negative.
    """
    if plate_mm <= 0 or slip_mm < 0:
        raise ValueError(f"slip {slip_mm} mm over an end-plate of {plate_mm} mm: need slip >= 0 and length > 0")
    if slip_mm == 0:
        return 0
    return min(int(slip_mm / plate_mm * 4), 3) + 1


def _shape_of(class_id: int, anatomy: Anatomy, disc: Disc) -> np.ndarray:
    """The points (mm) whose bounding box is the box of a finding."""
    if class_id in (DDD, IVDN):
        return disc.plain
    if class_id in (LDB, TDB):
        return disc.outline
    if class_id == SS:
        # From the back of the end-plates, bulge included, to the ligament behind the sac, a little over the disc.
        canal, i = anatomy.canal, anatomy.canal.at[disc.state.level]
        half = int((np.ptp(disc.margin @ np.array([0.0, 1.0])) / 2 + 4.5) / 0.5)
        return canal.strip(np.zeros(1), canal.wall, max(0, i - half), i + half + 1)
    # Slip: the halves of the two bodies that face each other.
    upper, lower = disc.state.level.split("/")
    above, below = anatomy.body(upper), anatomy.body(lower)
    half_above = above.lower + 0.4 * (above.upper - above.lower)
    half_below = below.upper + 0.4 * (below.lower - below.upper)
    return np.concatenate([above.lower, half_above, below.upper, half_below])


def read_findings(anatomy: Anatomy, frame: Frame) -> list[Finding]:
    """Read the labelled boxes off the anatomy.

    Args:
        anatomy: the shapes of the slice.
        frame: where the image lies on them.

    Returns:
        Findings from L5/S1 upwards, boxes clipped to the image; those mostly outside it are left out.
    """
    findings = []
    for disc in anatomy.discs:
        if not disc.labelled:
            continue
        for class_id in classes_of(disc.state):
            shape = _shape_of(class_id, anatomy, disc)
            corners = frame.to_px(np.stack([shape.min(0) - _MARGIN_MM, shape.max(0) + _MARGIN_MM]))
            inside = np.clip(corners, 0, frame.size)
            if np.prod(np.diff(inside, axis=0)) < _MIN_VISIBLE * np.prod(np.diff(corners, axis=0)):
                continue
            slip = disc.slip_mm if class_id == SP else 0.0
            grade = meyerding_grade(slip, disc.plate_mm)
            box = tuple(float(v) for v in inside.ravel())
            findings.append(Finding(class_id, box, disc.state.level, disc.state.pfirrmann, slip, grade))
    return findings


def generate_slice(
    patient: Patient,
    sequence: str = "t2",
    slice_offset_mm: float = 0.0,
    size: int = 384,
    rng: np.random.Generator | None = None,
) -> PhantomSlice:
    """Render one sagittal slice of a patient.

    Args:
        patient: from `sample_patient`.
        sequence: "t1" or "t2".
        slice_offset_mm: distance from the midline, -8 to 8 mm.
        size: side of the square image in pixels, 64 to 1024.
        rng: source of everything that belongs to this acquisition (coil, noise, window); seed 0 where it is None.

    Returns:
        The slice. Anatomy and findings depend on the patient and the offset alone, not on `rng`.

    Raises:
        ValueError: unknown sequence, or size or offset out of range.
    """
    if sequence not in SEQUENCES:
        raise ValueError(f"sequence {sequence!r}: choose one of {', '.join(SEQUENCES)}")
    if not 64 <= size <= 1024:
        raise ValueError(f"size {size} px: choose 64 to 1024")
    anatomy = build_anatomy(patient, slice_offset_mm)
    frame = Frame.of(anatomy, size)
    image = render(anatomy, frame, sequence, np.random.default_rng(0) if rng is None else rng)
    return PhantomSlice(image, read_findings(anatomy, frame), sequence, frame.mm_per_px)
