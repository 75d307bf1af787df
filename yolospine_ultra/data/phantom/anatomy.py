"""The shapes of one mid-sagittal slice of the spine phantom: bodies, discs, canal, all in millimetres.

Written for this project from general anatomy. The spine is stacked on the sacrum from below; the disease states of
`patient` deform it (thinner disc, bulge, slip, narrowed canal) and whatever is asked afterwards - boxes as well
as pixels - is read off the deformed shapes. Axes: x to the back (right in the image), y to the feet (down).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolospine_ultra.data.phantom.patient import LEVELS, DiscState, Patient

# name, height, depth of the lower and of the upper end-plate (mm), wedge (degrees, positive opens to the front),
# then the disc below: height (mm), wedge (degrees). T9 and T10 only fill the image above the last labelled disc.
_BODIES = (
    ("L5", 27.0, 34.5, 35.0, 8.5, 9.8, 15.0),
    ("L4", 27.5, 34.5, 34.5, 2.5, 11.0, 10.5),
    ("L3", 28.0, 34.0, 33.5, 0.5, 10.6, 7.0),
    ("L2", 27.5, 33.0, 32.5, -0.5, 9.6, 5.0),
    ("L1", 26.5, 32.0, 31.0, -1.5, 8.4, 3.5),
    ("T12", 25.0, 30.5, 29.5, -2.5, 6.8, 1.0),
    ("T11", 23.5, 29.5, 28.5, -3.0, 5.8, 0.0),
    ("T10", 22.5, 28.5, 27.5, -3.0, 5.2, 0.0),
    ("T9", 22.0, 27.5, 27.0, -3.0, 5.0, 0.0),
)
# Fused sacral segments: name, height, upper and lower depth (mm), bend (degrees).
_SACRUM = (
    ("S1", 27.0, 33.0, 20.0, 10.0),
    ("S2", 21.0, 19.0, 13.5, 4.0),
    ("S3", 18.0, 12.5, 10.0, -6.0),
    ("S4", 16.0, 9.5, 7.5, -16.0),
    ("S5", 14.0, 7.0, 5.0, -20.0),
)
BACK_SPUR = 0.76  # bone spurs behind, as a share of those in front
_STEP_MM = 0.5  # spacing of the samples along the canal

# Where the points of a plate, a wall, a disc's back and front lie along it, (K, 1), and a bow over them.
_PLATE, _WALL, _BACK, _FRONT = (
    np.linspace(0, 1, n)[part, None]
    for n, part in ((17, slice(None)), (13, slice(1, -1)), (21, slice(None)), (15, slice(1, -1)))
)
_PLATE_BOW, _WALL_BOW, _BACK_BOW, _FRONT_BOW = (np.abs(np.sin(np.pi * t)) for t in (_PLATE, _WALL, _BACK, _FRONT))
_SPUR = np.exp(-((_WALL / 0.1) ** 2))


@dataclass(frozen=True)
class Body:
    """One vertebral body.

    Attributes:
        name: "T9" to "L5", "S1" to "S5".
        outline: closed outline, (N, 2) mm.
        lower: lower end-plate from front to back, (K, 2) mm.
        upper: upper end-plate from front to back, (K, 2) mm.
    """

    name: str
    outline: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """Middle of the body, (2,) mm."""
        return (self.lower.mean(0) + self.upper.mean(0)) / 2


@dataclass(frozen=True)
class Disc:
    """One disc between two bodies.

    Attributes:
        state: the disease state that shaped it.
        outline: the disc with its bulge, (N, 2) mm.
        plain: the disc as it would be without the bulge, (N, 2) mm.
        margin: posterior margin with the bulge, cranial to caudal, (K, 2) mm.
        rims: the end-plates' corners with their bone spurs, (4, 2) mm: upper front and back, lower back and front.
        bulge_mm: overhang of the margin behind the end-plates in this slice, mm.
        slip_mm: forward slip of the body above over the body below, mm, 0 where there is none.
        plate_mm: length of the lower body's upper end-plate, mm.
        labelled: False for the filler disc above the labelled levels.
    """

    state: DiscState
    outline: np.ndarray
    plain: np.ndarray
    margin: np.ndarray
    rims: np.ndarray
    bulge_mm: float
    slip_mm: float
    plate_mm: float
    labelled: bool

    @property
    def upper_plate(self) -> np.ndarray:
        """The end-plate above the disc from front to back, (17, 2) mm."""
        return self.plain[:17]

    @property
    def lower_plate(self) -> np.ndarray:
        """The end-plate below the disc from front to back, (17, 2) mm."""
        return self.plain[36:53][::-1]


@dataclass(frozen=True)
class Canal:
    """The spinal canal along a line down the backs of the bodies; distances are measured backwards from that line.

    Attributes:
        line: samples from cranial to caudal, (N, 2) mm.
        normal: unit vectors pointing to the back, (N, 2).
        front: front of the dural sac, (N,) mm.
        back: back of the dural sac, (N,) mm.
        wall: ligament and bone behind the sac, (N,) mm.
        depth: depth the sac would have without narrowing, (N,) mm.
        at: sample index of every disc level.
        cord_end: sample index where the cord ends.
        sac_end: sample index where the dural sac ends.
    """

    line: np.ndarray
    normal: np.ndarray
    front: np.ndarray
    back: np.ndarray
    wall: np.ndarray
    depth: np.ndarray
    at: dict[str, int]
    cord_end: int
    sac_end: int

    def edge(self, distance: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Points `distance` mm behind the line, for samples start to stop."""
        part = slice(start, stop)
        return self.line[part] + self.normal[part] * np.broadcast_to(distance, len(self.line))[part, None]

    def strip(self, near: np.ndarray, far: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Closed outline of the strip between two distances from the line, (N, 2) mm."""
        return np.concatenate([self.edge(near, start, stop), self.edge(far, start, stop)[::-1]])

    def loss(self) -> np.ndarray:
        """Share of the sac's depth that is lost, (N,), 0 to 1."""
        return 1 - (self.back - self.front) / self.depth

    def narrowing(self, level: str) -> float:
        """Share of the sac's depth lost at a disc level, 0 to 1."""
        return float(self.loss()[self.at[level]])

    def narrowed(self, level: str, share: float) -> tuple[int, int]:
        """First sample and the one after the last of the stretch around a level with `share` of its loss or more."""
        loss, i = self.loss(), self.at[level]
        free = np.flatnonzero(loss < share * loss[i])
        return int(max(free[free < i], default=-1)) + 1, int(min(free[free > i], default=len(loss)))


@dataclass(frozen=True)
class Anatomy:
    """All shapes of one slice; `bodies` and `discs` run from caudal to cranial."""

    patient: Patient
    offset_mm: float
    sacrum: tuple[Body, ...]
    bodies: tuple[Body, ...]
    discs: tuple[Disc, ...]
    canal: Canal
    spinous: dict[str, np.ndarray]

    def body(self, name: str) -> Body:
        """Return a body by name; raise KeyError where there is none."""
        for body in self.bodies + self.sacrum:
            if body.name == name:
                return body
        raise KeyError(f"no vertebral body {name!r}")


def _axes(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (to the back, to the head) of an end-plate tilted by `degrees` (front edge down is positive)."""
    a = np.deg2rad(degrees)
    return np.array([np.cos(a), -np.sin(a)]), np.array([-np.sin(a), -np.cos(a)])


def round_corners(points: np.ndarray, times: int = 2) -> np.ndarray:
    """Cut the corners of a closed outline (Chaikin); every pass doubles the number of points."""
    for _ in range(times):
        cut = np.empty((len(points), 2, 2))
        step = 0.25 * (np.concatenate([points[1:], points[:1]]) - points)
        cut[:, 0] = points + step
        cut[:, 1] = points + 3 * step
        points = cut.reshape(-1, 2)
    return points


def _plate(centre: np.ndarray, degrees: float, depth: float, hollow: float) -> np.ndarray:
    """One end-plate from front to back, hollowed by `hollow` mm towards the head (negative: towards the feet)."""
    back, up = _axes(degrees)
    return centre + (_PLATE - 0.5) * depth * back + hollow * _PLATE_BOW**0.8 * up


def _outline(
    lower: np.ndarray, upper: np.ndarray, waist: tuple[float, float], spurs: tuple[float, float]
) -> np.ndarray:
    """Join two end-plates by a front and a back wall with a waist (mm); spurs (mm) lengthen the corners."""
    back = lower[-1] - lower[0]
    back = back / np.linalg.norm(back)
    spur = spurs[0] * _SPUR + spurs[1] * _SPUR[::-1]
    front_wall = lower[0] + (upper[0] - lower[0]) * _WALL + (waist[0] * _WALL_BOW - spur) * back
    back_wall = upper[-1] + (lower[-1] - upper[-1]) * _WALL + (BACK_SPUR * spur[::-1] - waist[1] * _WALL_BOW) * back
    tips = [
        p + s * w * back
        for s, ps in zip(spurs, (lower, upper), strict=True)
        for p, w in ((ps[:1], -1), (ps[-1:], BACK_SPUR))
    ]
    return round_corners(
        np.concatenate([tips[1], lower[::-1], tips[0], front_wall, tips[2], upper, tips[3], back_wall]), 1
    )


def _disc(
    below: np.ndarray,
    above: np.ndarray,
    state: DiscState,
    bulge: float,
    slip: float,
    spur: float,
    labelled: bool,
    scale: float,
) -> Disc:
    """Build the disc between two plates (both front to back) whose front rims bear spurs of `spur` mm."""
    back = below[-1] - below[0]
    plate = float(np.linalg.norm(back))
    back = back / plate
    up = np.array([back[1], -back[0]])
    chord = above[-1] + (below[-1] - above[-1]) * _BACK
    rest = chord + 0.5 * _BACK_BOW * back
    # The bulge hangs over the rims it passes, the more the further it reaches.
    peak = np.clip(_BACK - state.bulge_shift * _BACK_BOW, 0, 1)
    hang = 0.35 * bulge * _BACK_BOW * (1 - 2 * _BACK)
    margin = chord + (0.5 + bulge) * np.abs(np.sin(np.pi * peak)) ** 0.75 * back + hang * up
    forward = (1.2 + (1.6 if state.degenerated else 0.0)) * scale
    front = below[0] + (above[0] - below[0]) * _FRONT - forward * _FRONT_BOW * back
    outline = np.concatenate([above, margin[1:-1], below[::-1], front])
    plain = np.concatenate([above, rest[1:-1], below[::-1], front])
    rims = (
        np.stack([above[0], above[-1], below[-1], below[0]])
        + spur * np.array([[-1], [BACK_SPUR], [BACK_SPUR], [-1]]) * back
    )
    return Disc(state, outline, plain, margin, rims, bulge, slip, plate, labelled)


def _smooth(values: np.ndarray, width_mm: float) -> np.ndarray:
    """Gaussian smoothing along the first axis, `width_mm` being the standard deviation along the canal."""
    sigma = width_mm / _STEP_MM
    radius = int(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    columns = np.atleast_2d(values.T)
    # Pad along the end tangent, so the line does not curl up at its ends.
    head = 2 * columns[:, :1] - columns[:, radius:0:-1]
    tail = 2 * columns[:, -1:] - columns[:, -2 : -radius - 2 : -1]
    padded = np.concatenate([head, columns, tail], 1)
    out = np.stack([np.convolve(row, kernel, "valid") for row in padded])
    return out[0] if values.ndim == 1 else out.T


def _canal_line(bodies: list[Body], sacrum: list[Body]) -> tuple[np.ndarray, np.ndarray]:
    """Samples down the backs of the bodies and the unit vectors pointing backwards from them."""
    knots = []
    for body in [*reversed(bodies), *sacrum]:
        top, bottom = body.upper[-1], body.lower[-1]
        knots += [top + (bottom - top) * f for f in (0.1, 0.5, 0.9)]
    knots = np.array(knots)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    s = np.arange(0, along[-1], _STEP_MM)
    line = _smooth(np.stack([np.interp(s, along, knots[:, k]) for k in (0, 1)], 1), 4.0)
    tangent = _smooth(np.gradient(line, axis=0), 6.0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return line, np.stack([tangent[:, 1], -tangent[:, 0]], 1)


def _build_canal(patient: Patient, bodies: list[Body], sacrum: list[Body], discs: list[Disc], offset: float) -> Canal:
    """Lay the dural sac along the bodies, push it back by every bulge and pinch it where a level is narrowed."""
    line, normal = _canal_line(bodies, sacrum)
    n = len(line)
    s = np.arange(n) * _STEP_MM
    at = {d.state.level: int(np.argmin(np.linalg.norm(line - d.margin[10], axis=1))) for d in discs if d.labelled}
    from_s1 = s - s[at["L5/S1"]]  # negative above the last disc
    # Off the midline the canal is shallower: a circle cut beside its centre.
    off_axis = np.sqrt(max(0.2, 1 - (offset / 13) ** 2))
    depth = patient.canal_ap_mm * off_axis * (1 + 0.08 * np.tanh(-(from_s1 + 150) / 40))
    depth = depth * np.clip((62 - from_s1) / 70, 0.02, 1)
    gap = 1.0 + 5.0 / (1 + np.exp(-(from_s1 + 8) / 9))  # fat in front of the sac at the sacrum
    front, back = gap.copy(), gap + depth
    wall = gap + depth + 1.5
    for disc in discs:
        if not disc.labelled:
            continue
        i = at[disc.state.level]
        height = float(np.linalg.norm(disc.margin[0] - disc.margin[-1]))
        near = np.exp(-0.5 * ((s - s[i]) / (0.42 * height + 2.0)) ** 2)
        reach = float(np.max((np.concatenate([disc.margin, disc.rims[1:3]]) - line[i]) @ normal[i])) + 0.4
        front = front + near * max(0.0, reach - front[i])
        floor = front[i] + (1 - disc.state.narrowing) * depth[i]
        # Thickened ligamentum flavum takes what the bulge has left to take.
        pinch = np.exp(-0.5 * ((s - s[i]) / 5.0) ** 2)
        back = back - pinch * max(0.0, back[i] - floor)
    back = np.maximum(back, front + 0.15 * depth)
    cord_end = int(np.clip(at["T12/L1"] + patient.conus_mm / _STEP_MM, 20, n - 1))
    sac_end = int(np.clip(at["L5/S1"] + 56 / _STEP_MM, 0, n - 1))
    return Canal(line, normal, front, back, wall, depth, at, cord_end, sac_end)


def _spinous(patient: Patient, bodies: list[Body], canal: Canal, offset: float) -> dict[str, np.ndarray]:
    """Outlines of the spinous processes, hatchet-shaped in the lumbar and slanting in the thoracic spine."""
    rng = np.random.default_rng([patient.texture_seed, 7])
    shapes = {}
    shrink = np.exp(-((offset / 9) ** 2))
    for body in bodies:
        lumbar = body.name.startswith("L")
        jitter = rng.normal(0, 1, 5)
        root = body.upper[-1] + (body.lower[-1] - body.upper[-1]) * 0.72
        i = int(np.argmin(np.linalg.norm(canal.line - root, axis=1)))
        back, down = canal.normal[i], np.array([-canal.normal[i][1], canal.normal[i][0]])
        slope = np.deg2rad((8 if lumbar else 38) + 4 * jitter[0])
        axis = np.cos(slope) * back + np.sin(slope) * down
        side = np.array([-axis[1], axis[0]])
        length = ((30 if lumbar else 33) - (7 if body.name == "L5" else 0) + 1.5 * jitter[1]) * patient.scale
        tall = ((20.5 if lumbar else 9.5) - (5 if body.name == "L5" else 0) + 1.2 * jitter[2]) * patient.scale * shrink
        start = canal.line[i] + back * (canal.wall[i] + 1.0)
        profile = ((0, -0.2), (0.25, -0.28), (0.6, -0.36), (0.95, -0.36), (1.03, 0.05), (0.97, 0.58), (0.6, 0.52))
        profile += ((0.3, 0.26), (0, 0.22))
        points = [start + axis * length * a + side * tall * (b + 0.03 * jitter[3] * a) for a, b in profile]
        shapes[body.name] = round_corners(np.array(points), 3)
    return shapes


def _build_sacrum(patient: Patient) -> list[Body]:
    """The fused sacral segments, S1's upper end-plate centred at the origin."""
    centre, tilt = np.zeros(2), patient.sacral_slope_deg + patient.pose_deg
    sacrum = []
    for name, height, top_depth, bottom_depth, bend in _SACRUM:
        upper = _plate(centre, tilt, top_depth * patient.scale, -0.8 if name == "S1" else 0.0)
        tilt += bend
        centre = centre - _axes(tilt - bend / 2)[1] * height * patient.scale
        lower = _plate(centre, tilt, bottom_depth * patient.scale, 0.0)
        sacrum.append(Body(name, _outline(lower, upper, (1.5, 0.8), (0.0, 0.0)), lower, upper))
        centre = centre - _axes(tilt)[1] * 1.2
    return sacrum


def build_anatomy(patient: Patient, offset_mm: float = 0.0) -> Anatomy:
    """Build the shapes of the slice `offset_mm` beside the midline.

    Args:
        patient: from `patient.sample_patient`.
        offset_mm: distance from the mid-sagittal plane, -8 to 8 mm; bulges and canal shrink slightly with it.

    Returns:
        The deformed shapes in mm, S1's upper end-plate centred at the origin.

    Raises:
        ValueError: the offset is further than 8 mm from the midline, where the phantom has no anatomy.
    """
    if abs(offset_mm) > 8:
        raise ValueError(f"slice offset {offset_mm} mm: the phantom covers -8 to 8 mm around the midline")
    rng = np.random.default_rng([patient.texture_seed, 3])
    k, fade = patient.scale, 1 - 0.02 * abs(offset_mm)
    sacrum = _build_sacrum(patient)
    tilt = patient.sacral_slope_deg + patient.pose_deg
    centre, below = np.zeros(2), sacrum[0].upper
    bodies, discs = [], []
    states = [*patient.discs, *(DiscState("filler", 1.5, 1.0, 0.2, 0.0, 0.0, 0.0) for _ in _BODIES[len(LEVELS) :])]
    spurs = [1.5 + float(rng.uniform(0, 2)) if s.degenerated else 0.0 for s in states] + [0.0]
    for j, (name, height, low, high, wedge, gap, opening) in enumerate(_BODIES):
        state = states[j]
        jitter = rng.normal(0, 1, 5)
        back, _ = _axes(tilt)
        slip = state.slip_fraction * float(np.linalg.norm(below[-1] - below[0]))
        opening = (opening * patient.lordosis + 0.8 * jitter[0]) * (0.45 + 0.55 * state.height_factor)
        spacing = (gap + 0.4 * jitter[1]) * k * state.height_factor
        centre = centre + _axes(tilt - opening / 2)[1] * spacing - back * slip
        tilt -= opening
        hollow = max(0.5, 1.4 + 0.4 * jitter[2])
        lower = _plate(centre, tilt, low * k, hollow)
        tall = (height + 0.5 * jitter[3]) * k
        centre = centre + _axes(tilt - wedge / 2)[1] * tall
        tilt -= wedge + 0.4 * jitter[4]
        upper = _plate(centre, tilt, high * k, -hollow * 0.8)
        bodies.append(Body(name, _outline(lower, upper, (1.4, 0.8), (spurs[j], spurs[j + 1])), lower, upper))
        labelled = state.level in LEVELS
        discs.append(_disc(below, lower, state, state.bulge_mm * fade, slip, spurs[j], labelled, k))
        below = upper
    canal = _build_canal(patient, bodies, sacrum, discs, offset_mm)
    spinous = _spinous(patient, bodies, canal, offset_mm)
    return Anatomy(patient, offset_mm, tuple(sacrum), tuple(bodies), tuple(discs), canal, spinous)
