"""One slice of the spine phantom: a drawn patient in, a grey picture and its labelled findings out.

Written for this project. The disease states deform the anatomy (`anatomy`), this file reads every box off the
deformed shapes, and `render` gives the same shapes their grey values; a box can therefore never disagree with
what is seen. Classes: 0 DDD, 1 IVDn, 2 SS, 3 SP, 4 LDB, 5 TDB.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from yolospine_ultra.data.phantom.anatomy import Anatomy, Disc, build_anatomy
from yolospine_ultra.data.phantom.patient import (
    BULGE_MM,
    LEVELS,
    SLIP_MM,
    STENOSIS_FRACTION,
    THORACIC_LEVELS,
    Patient,
    sample_patient,
)
from yolospine_ultra.data.phantom.render import SEQUENCES, Frame, render

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

# How far the boxes reach. Annotators draw a little outside the structure, a stenosis from the rims of the bodies that
# crowd it and over the stretch in which the sac is narrowed, a slip over the larger part of both bodies; within that,
# the numbers were tuned until the overlaps of the boxes follow the paper's table (`report`).
_MARGIN_MM = 2.5
_STENOSIS_FRONT_MM = 4.2
_STENOSIS_SHARE = 0.08  # of the loss of depth at the level
_SLIP_SHARE = 0.575  # of the height of either body
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
        outlines: closed outlines of what the box is drawn around, (N, 2) pixels each; may leave the image.
    """

    class_id: int
    box: tuple[float, float, float, float]
    level: str
    pfirrmann: int
    slip_mm: float = 0.0
    meyerding: int = 0
    outlines: tuple[np.ndarray, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class PhantomSlice:
    """A rendered slice: `image` and `mask` are uint8 (size, size), `mm_per_px` their pixel size, `findings` the labels.

    The mask names the anatomy as the SPIDER data set does: 1 for L5, 2 for L4 and so on upwards, 100 for the dural sac,
    201 for the disc L5/S1, 202 for L4/L5 and so on; 0 elsewhere.
    """

    image: np.ndarray
    mask: np.ndarray
    findings: list[Finding]
    sequence: str
    mm_per_px: float


def classes_of(anatomy: Anatomy, disc: Disc) -> list[int]:
    """Class IDs a disc is labelled with in this slice, at least one, in ascending order; measured on the shapes."""
    classes = []
    if disc.state.degenerated:
        classes.append(DDD)
    if disc.bulge_mm >= BULGE_MM:
        classes.append(TDB if disc.state.level in THORACIC_LEVELS else LDB)
    if not classes:
        classes.append(IVDN)
    if anatomy.canal.narrowing(disc.state.level) >= STENOSIS_FRACTION:
        classes.append(SS)
    if disc.slip_mm >= SLIP_MM:
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


def shape_of(class_id: int, anatomy: Anatomy, disc: Disc) -> list[np.ndarray]:
    """The closed outlines (mm) of a finding, whose common bounding box, a margin added, is its box."""
    level = disc.state.level
    if class_id in (IVDN, LDB, TDB):
        return [disc.outline]
    if class_id == DDD:  # the disc space with the bone spurs on its rims, without what bulges out of it
        plates = disc.upper_plate, disc.lower_plate[::-1]
        return [np.concatenate([disc.rims[:1], plates[0], disc.rims[1:3], plates[1], disc.rims[3:]])]
    if class_id == SS:
        canal = anatomy.canal
        start, stop = canal.narrowed(level, _STENOSIS_SHARE)
        return [canal.strip(np.full(1, -_STENOSIS_FRONT_MM), canal.wall, start, stop)]
    # Slip: the parts of the two bodies that face each other.
    upper, lower = level.split("/")
    above, below = anatomy.body(upper), anatomy.body(lower)
    far_above = above.lower + _SLIP_SHARE * (above.upper - above.lower)
    far_below = below.upper + _SLIP_SHARE * (below.lower - below.upper)
    return [np.concatenate([above.lower, far_above[::-1]]), np.concatenate([below.upper, far_below[::-1]])]


def read_findings(anatomy: Anatomy, frame: Frame) -> list[Finding]:
    """Read the labelled boxes off the anatomy.

    Args:
        anatomy: the shapes of the slice.
        frame: where the image lies on them.

    Returns:
        Findings from L5/S1 upwards, boxes clipped to the image; those mostly outside it are left out. A stenosis over
        two levels is one finding, of the lower of them.
    """
    findings: list[Finding] = []
    for disc in anatomy.discs:
        if not disc.labelled:
            continue
        for class_id in classes_of(anatomy, disc):
            outlines = shape_of(class_id, anatomy, disc)
            shape = np.concatenate(outlines)
            corners = frame.to_px(np.stack([shape.min(0) - _MARGIN_MM, shape.max(0) + _MARGIN_MM]))
            inside = np.clip(corners, 0, frame.size)
            if np.prod(np.diff(inside, axis=0)) < _MIN_VISIBLE * np.prod(np.diff(corners, axis=0)):
                continue
            slip = disc.slip_mm if class_id == SP else 0.0
            grade = meyerding_grade(slip, disc.plate_mm)
            box = tuple(float(v) for v in inside.ravel())
            if any((f.class_id, f.box) == (class_id, box) for f in findings):
                continue
            seen = tuple(frame.to_px(outline) for outline in outlines)
            findings.append(Finding(class_id, box, disc.state.level, disc.state.pfirrmann, slip, grade, seen))
    return findings


def anatomy_mask(anatomy: Anatomy, frame: Frame) -> np.ndarray:
    """Bodies, discs and dural sac as labels, uint8 (size, size); the numbers are those of `PhantomSlice.mask`."""
    mask = np.zeros((frame.size, frame.size), np.uint8)
    canal = anatomy.canal
    shapes = [(100, canal.strip(canal.front, canal.back, 0, canal.sac_end))]
    shapes += [(201 + k, disc.outline) for k, disc in enumerate(anatomy.discs)]
    shapes += [(1 + k, body.outline) for k, body in enumerate(anatomy.bodies)]
    for value, outline in shapes:
        points = np.rint((frame.to_px(outline) - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], value, cv2.LINE_8, 4)
    return mask


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
        sequence: "t1", "t2" or "t2_space".
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
    return PhantomSlice(image, anatomy_mask(anatomy, frame), read_findings(anatomy, frame), sequence, frame.mm_per_px)
