"""Who lies in the scanner: one made-up patient of the spine phantom, with a disease state for every disc.

Written for this project. Body sizes are round textbook values for adults (mm), scaled per patient; the share of each
disorder follows the class counts the project aims at (633 DDD, 4131 IVDn, 1921 SS, 122 SP, 2033 LDB and 151 TDB boxes
over 1038 images). Nothing here knows about pixels: `phantom_anatomy` turns a patient into shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Caudal to cranial, the order in which the spine is stacked on the sacrum.
LEVELS = ("L5/S1", "L4/L5", "L3/L4", "L2/L3", "L1/L2", "T12/L1", "T11/T12")
THORACIC_LEVELS = ("T12/L1", "T11/T12")

DDD_PFIRRMANN = 4  # a disc of this grade or worse counts as degenerated
BULGE_MM = 2.0  # a posterior overhang of at least this counts as a bulge
STENOSIS_FRACTION = 0.28  # a dural sac that lost at least this share of its depth counts as stenosed

# Chance per level of a bulge, of a slip, and of a stenosis without a bulge.
_P_BULGE = dict(zip(LEVELS, (0.44, 0.52, 0.40, 0.29, 0.19, 0.075, 0.10), strict=True))
_P_SLIP = dict(zip(LEVELS, (0.040, 0.062, 0.018, 0.005, 0.0, 0.0, 0.0), strict=True))
_P_NARROW_ALONE = dict(zip(LEVELS, (0.06, 0.13, 0.11, 0.07, 0.05, 0.01, 0.01), strict=True))
_P_NARROW_WITH_BULGE = 0.78
_P_DDD_WITH_BULGE = 0.13
_P_DDD_ALONE = 0.03


@dataclass(frozen=True)
class DiscState:
    """The state of one disc and of the canal behind it.

    Attributes:
        level: one of `LEVELS`.
        pfirrmann: Pfirrmann grade, 1 (healthy) to 5 (collapsed).
        height_factor: disc height relative to the healthy height, 0.3 to 1.05.
        bulge_mm: overhang of the disc behind the end-plates, 0 to 8 mm.
        bulge_shift: where the bulge peaks along the disc height, -0.25 (cranial) to 0.25 (caudal).
        narrowing: share of the dural sac's depth that is lost at this level, 0 to 0.8.
        slip_fraction: forward slip of the upper vertebra over the lower end-plate's length, 0 (none) to 0.7.
    """

    level: str
    pfirrmann: int
    height_factor: float
    bulge_mm: float
    bulge_shift: float
    narrowing: float
    slip_fraction: float

    @property
    def degenerated(self) -> bool:
        """Whether the disc counts as degenerative disc disease."""
        return self.pfirrmann >= DDD_PFIRRMANN

    @property
    def bulging(self) -> bool:
        """Whether the disc counts as bulging."""
        return self.bulge_mm >= BULGE_MM

    @property
    def stenosed(self) -> bool:
        """Whether the canal at this level counts as stenosed."""
        return self.narrowing >= STENOSIS_FRACTION

    @property
    def slipped(self) -> bool:
        """Whether the upper vertebra has slipped forward."""
        return self.slip_fraction > 0


@dataclass(frozen=True)
class Patient:
    """One made-up patient; everything that stays the same from slice to slice.

    Attributes:
        age: years, 18 to 88.
        scale: body size relative to the average adult, about 0.88 to 1.12.
        pose_deg: tilt of the whole spine in the image plane, degrees, positive leans forward.
        sacral_slope_deg: tilt of the S1 end-plate, degrees.
        lordosis: factor on every disc's wedge angle, about 0.7 to 1.3.
        canal_ap_mm: depth of the dural sac at L3, mm, 11 to 17.
        conus_mm: how far below the T12/L1 disc the cord ends, mm, -10 to 45.
        back_fat_mm: subcutaneous fat behind the spine, mm, 8 to 45.
        belly_mm: depth of the abdomen in front of the spine, mm.
        fov_top: how far down its body the upper image edge cuts `fov_top_body`, 0 to 1.
        fov_top_body: the vertebra the upper image edge passes through, "T11" or "T12".
        fov_below_mm: how far below the S1 end-plate the image ends, mm.
        fov_x: where the canal lies across the image, 0 (left, anterior) to 1.
        texture_seed: seed of everything soft that belongs to the patient (marrow pattern, bowel, vessels).
        discs: one state a level, in the order of `LEVELS`.
    """

    age: float
    scale: float
    pose_deg: float
    sacral_slope_deg: float
    lordosis: float
    canal_ap_mm: float
    conus_mm: float
    back_fat_mm: float
    belly_mm: float
    fov_top: float
    fov_top_body: str
    fov_below_mm: float
    fov_x: float
    texture_seed: int
    discs: tuple[DiscState, ...]

    def disc(self, level: str) -> DiscState:
        """Return the state of the disc at `level`; raise KeyError where there is no such level."""
        for state in self.discs:
            if state.level == level:
                return state
        raise KeyError(f"no disc level {level!r}, only {', '.join(LEVELS)}")


def _shifted(probability: float, severity: float) -> float:
    """Move a probability by `severity` on the logit scale, so that disorders cluster in the same patients."""
    if probability <= 0:
        return 0.0
    odds = probability / (1 - probability) * np.exp(severity)
    return float(odds / (1 + odds))


def _sample_slip(rng: np.random.Generator) -> float:
    """Draw a slip fraction: four in five grade I, few grade III."""
    grade = rng.choice(3, p=(0.8, 0.16, 0.04))
    low, high = ((0.11, 0.24), (0.26, 0.42), (0.52, 0.62))[grade]
    return float(rng.uniform(low, high))


def _sample_grade(rng: np.random.Generator, degenerated: bool, bulging: bool, age: float) -> tuple[int, float]:
    """Draw a Pfirrmann grade and the height factor that goes with it."""
    if degenerated:
        grade = int(rng.choice((4, 5), p=(0.6, 0.4)))
    elif bulging:
        grade = int(rng.choice((2, 3), p=(0.4, 0.6)))
    else:
        old = np.clip((age - 20) / 60, 0, 1)
        grade = int(rng.choice((1, 2, 3), p=(0.5 - 0.4 * old, 0.4, 0.1 + 0.4 * old)))
    low, high = {1: (0.95, 1.05), 2: (0.92, 1.05), 3: (0.82, 1.0), 4: (0.58, 0.78), 5: (0.34, 0.56)}[grade]
    return grade, float(rng.uniform(low, high))


def _sample_disc(rng: np.random.Generator, level: str, age: float, severity: float) -> DiscState:
    """Draw the state of one disc; disorders come with a gap around the thresholds, so no label is a coin flip."""
    slip = _sample_slip(rng) if rng.random() < _P_SLIP[level] else 0.0
    bulging = rng.random() < (0.8 if slip else _shifted(_P_BULGE[level], severity))
    # A slipped disc is never a normal one: without a bulge it is at least degenerated.
    p_ddd = _P_DDD_WITH_BULGE if bulging else _P_DDD_ALONE
    degenerated = rng.random() < _shifted(p_ddd, severity) or bool(slip and not bulging)
    p_narrow = _P_NARROW_WITH_BULGE if bulging else _P_NARROW_ALONE[level]
    if level in THORACIC_LEVELS:
        p_narrow *= 0.55
    narrow = rng.random() < p_narrow
    low, high = ((3.2, 7.5) if narrow else (2.3, 3.2)) if bulging else (0.0, 0.7)
    bulge = rng.uniform(low, high)
    if level in THORACIC_LEVELS and bulging:
        bulge = 2.2 + 0.5 * (bulge - 2.2)
    narrowing = rng.uniform(0.36, 0.74) if narrow else rng.uniform(0.0, 0.06)
    grade, height = _sample_grade(rng, degenerated, bulging, age)
    shift = float(rng.uniform(-0.2, 0.25)) if bulging else 0.0
    return DiscState(level, grade, height, float(bulge), shift, float(narrowing), slip)


def sample_patient(rng: np.random.Generator) -> Patient:
    """Draw one patient.

    Args:
        rng: source of every number; the same state gives the same patient.

    Returns:
        The patient, with the states of the seven discs from L5/S1 up to T11/T12.
    """
    age = float(np.clip(rng.normal(52, 16), 18, 88))
    severity = float(rng.normal(0, 0.7) + (age - 52) / 40)
    discs = tuple(_sample_disc(rng, level, age, severity) for level in LEVELS)
    return Patient(
        age=age,
        scale=float(np.clip(rng.normal(1.0, 0.055), 0.88, 1.12)),
        pose_deg=float(rng.normal(0, 2.5)),
        sacral_slope_deg=float(np.clip(rng.normal(33, 5.5), 20, 46)),
        lordosis=float(np.clip(rng.normal(1.0, 0.15), 0.7, 1.3)),
        canal_ap_mm=float(np.clip(rng.normal(14.0, 1.2), 11, 17)),
        conus_mm=float(np.clip(rng.normal(16, 11), -10, 45)),
        back_fat_mm=float(np.clip(rng.lognormal(2.85, 0.45), 8, 45)),
        belly_mm=float(rng.uniform(85, 190)),
        fov_top=float(rng.uniform(0.12, 0.85)),
        fov_top_body="T11" if rng.random() < 0.66 else "T12",
        fov_below_mm=float(rng.uniform(36, 72)),
        fov_x=float(np.clip(rng.normal(0.58, 0.06), 0.45, 0.7)),
        texture_seed=int(rng.integers(2**31)),
        discs=discs,
    )
