"""Who lies in the scanner: one made-up patient of the spine phantom, with a disease state for every disc.

Written for this project. Body sizes are round textbook values for adults (mm), scaled per patient. The chances of the
disorders were tuned until the labels read off the anatomy follow the paper's tables (`report`). Every severity
is continuous through the threshold of its label, so that boundary cases exist as they do among patients. Nothing here
knows about pixels: `anatomy` turns a patient into shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

# Caudal to cranial, the order in which the spine is stacked on the sacrum.
LEVELS = ("L5/S1", "L4/L5", "L3/L4", "L2/L3", "L1/L2", "T12/L1", "T11/T12")
THORACIC_LEVELS = ("T12/L1", "T11/T12")
SHARED_RANKS = 3  # severity, slip, age
RANKS = SHARED_RANKS + 3 * len(LEVELS)  # bulge, wear and narrowing of every level, see `sample_patient`

# Severities at which a finding begins; `phantom` reads the labels with them.
DDD_WEAR = 3.0  # Pfirrmann 4 and worse
BULGE_MM = 2.0
STENOSIS_FRACTION = 0.28
SLIP_MM = 2.5

# Chance per level of a bulge, of a slip, and of a narrow canal without a bulge.
_P_BULGE = dict(zip(LEVELS, (0.47, 0.55, 0.43, 0.30, 0.19, 0.072, 0.092), strict=True))
_P_SLIP = dict(zip(LEVELS, (0.016, 0.083, 0.024, 0.006, 0.0, 0.0, 0.0), strict=True))
_P_NARROW_ALONE = dict(zip(LEVELS, (0.06, 0.13, 0.11, 0.07, 0.05, 0.01, 0.01), strict=True))
_P_NARROW_WITH_BULGE = 0.74
_P_BULGE_WITH_SLIP = 0.96
_P_DDD_WITH_BULGE = 0.081
_P_DDD_WITH_SLIP = 0.27
_P_DDD_ALONE = 0.068
_SLIP_GRADES = (0.775, 0.216, 0.009)  # Meyerding I, II, III


@dataclass(frozen=True)
class DiscState:
    """The state of one disc and of the canal behind it.

    Attributes:
        level: one of `LEVELS`.
        wear: degeneration, 0 (new) to 5 (collapsed); Pfirrmann 1 below 1, 2 below 2, and so on.
        height_factor: disc height relative to the healthy height, 0.3 to 1.1.
        bulge_mm: overhang of the disc behind the end-plates, 0 to 8 mm.
        bulge_shift: where the bulge peaks along the disc height, -0.25 (cranial) to 0.25 (caudal).
        narrowing: least share of the dural sac's depth that is lost at this level, 0 to 0.8.
        slip_fraction: forward slip of the upper vertebra over the lower end-plate's length, 0 (none) to 0.7.
    """

    level: str
    wear: float
    height_factor: float
    bulge_mm: float
    bulge_shift: float
    narrowing: float
    slip_fraction: float

    @property
    def pfirrmann(self) -> int:
        """Pfirrmann grade, 1 (healthy) to 5 (collapsed)."""
        return min(int(self.wear), 4) + 1

    @property
    def degenerated(self) -> bool:
        """Whether the disc counts as degenerative disc disease."""
        return self.wear >= DDD_WEAR


@dataclass(frozen=True)
class Patient:
    """One made-up patient; everything that stays the same from slice to slice.

    Attributes:
        age: years, 18 to 88.
        scale: body size relative to the average adult, about 0.88 to 1.12.
        pose_deg: tilt of the whole spine in the image plane, degrees, positive leans forward.
        sacral_slope_deg: tilt of the S1 end-plate, degrees.
        lordosis: factor on every disc's wedge angle, 0.55 to 1.4.
        canal_ap_mm: depth of the dural sac at L3, mm, 12 to 19.
        conus_mm: how far below the T12/L1 disc the cord ends, mm, -10 to 45.
        back_fat_mm: subcutaneous fat behind the spine, mm, 6 to 60.
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


def _place_slip(rank: float) -> tuple[str | None, float]:
    """Which level slips and by which share of the end-plate: at most one a patient, decided by a rank in 0..1."""
    for level, chance in _P_SLIP.items():
        if rank < chance:
            within = rank / chance  # uniform in 0..1, so the grades are spread as evenly as the ranks are
            for (low, high), share in zip(((0.06, 0.25), (0.25, 0.45), (0.5, 0.62)), _SLIP_GRADES, strict=True):
                if within < share:
                    return level, low + (high - low) * within / share
                within -= share
        rank -= chance
    return None, 0.0


def _sample_wear(rng: np.random.Generator, degenerated: bool, bulging: bool, age: float) -> tuple[float, float]:
    """Draw the wear of a disc and the height factor that goes with it."""
    if degenerated:
        wear = DDD_WEAR + 2 * rng.beta(1.2, 1.6)
    else:
        old = float(np.clip((age - 20) / 60, 0, 1))
        wear = DDD_WEAR * rng.beta(1.4 + 2.0 * old + 1.2 * bulging, 2.0 - 1.0 * old)
    height = np.interp(wear, (0, 2, 3, 4, 5), (1.02, 0.98, 0.88, 0.66, 0.36)) * rng.normal(1, 0.05)
    return float(wear), float(np.clip(height, 0.3, 1.1))


def _sample_disc(
    rng: np.random.Generator, level: str, ranks: Sequence[float], age: float, severity: float, slip: float
) -> DiscState:
    """Draw the state of one disc; three ranks in 0..1 decide whether it bulges, is degenerated, and narrows."""
    thoracic = level in THORACIC_LEVELS
    bulging = ranks[0] < (_P_BULGE_WITH_SLIP if slip else _shifted(_P_BULGE[level], severity))
    p_ddd = _P_DDD_WITH_SLIP if slip else _shifted(_P_DDD_WITH_BULGE if bulging else _P_DDD_ALONE, severity)
    # A slipped disc is never a normal one: without a bulge it is at least degenerated.
    degenerated = ranks[1] < p_ddd or bool(slip and not bulging)
    p_narrow = _P_NARROW_WITH_BULGE if bulging else _P_NARROW_ALONE[level]
    narrow = ranks[2] < p_narrow * (0.55 if thoracic else 1.0)
    reach = 2.0 if thoracic else 4.6
    bulge = BULGE_MM + reach * rng.beta(1.3, 2.4) if bulging else BULGE_MM * rng.beta(1.1, 2.0)
    limit = STENOSIS_FRACTION
    narrowing = limit + 0.45 * rng.beta(1.2, 1.8) if narrow else limit * rng.beta(1.0, 2.5)
    wear, height = _sample_wear(rng, degenerated, bulging, age)
    shift = rng.uniform(-0.2, 0.25) * min(1.0, bulge / BULGE_MM)
    return DiscState(level, wear, height, float(bulge), float(shift), float(narrowing), slip)


def sample_patient(rng: np.random.Generator, ranks: Sequence[float] | None = None) -> Patient:
    """Draw one patient.

    Args:
        rng: source of the numbers; the same state and ranks give the same patient.
        ranks: `RANKS` numbers in 0..1 that decide who has what, each uniform over a cohort: overall severity, slip,
            age; then bulge, wear and narrowing of each level. Drawn from `rng` where it is None. A cohort that spreads
            them evenly has the shares of the priors with less luck than independent draws.

    Returns:
        The patient, with the states of the seven discs from L5/S1 up to T11/T12.

    Raises:
        ValueError: another number of ranks, or one outside 0..1.
    """
    ranks = rng.random(RANKS) if ranks is None else ranks
    if len(ranks) != RANKS or not all(0 <= r <= 1 for r in ranks):
        raise ValueError(f"ranks {ranks}: need {RANKS} numbers from 0 to 1")
    normal = NormalDist()
    ill, old = (normal.inv_cdf(float(np.clip(r, 1e-6, 1 - 1e-6))) for r in (ranks[0], ranks[2]))
    age = float(np.clip(52 + 16 * old, 18, 88))
    severity = 0.7 * ill + (age - 52) / 40
    where, slip = _place_slip(float(ranks[1]))
    own = np.reshape(ranks[SHARED_RANKS:], (len(LEVELS), 3))
    discs = tuple(
        _sample_disc(rng, level, own[k], age, severity, slip if level == where else 0.0)
        for k, level in enumerate(LEVELS)
    )
    return Patient(
        age=age,
        scale=float(np.clip(rng.normal(1.0, 0.055), 0.88, 1.12)),
        pose_deg=float(rng.normal(-2, 3)),
        sacral_slope_deg=float(np.clip(rng.normal(38, 6), 24, 52)),
        lordosis=float(np.clip(rng.normal(1.0, 0.17), 0.55, 1.4)),
        canal_ap_mm=float(np.clip(rng.normal(15.3, 1.3), 12, 19)),
        conus_mm=float(np.clip(rng.normal(16, 11), -10, 45)),
        back_fat_mm=float(np.clip(rng.lognormal(2.85, 0.5), 6, 60)),
        belly_mm=float(rng.uniform(85, 190)),
        fov_top=float(rng.uniform(0.12, 0.85)),
        fov_top_body="T11" if rng.random() < 0.5 else "T12",
        fov_below_mm=float(rng.uniform(42, 92)),
        fov_x=float(np.clip(rng.normal(0.55, 0.07), 0.4, 0.7)),
        texture_seed=int(rng.integers(2**31)),
        discs=discs,
    )
