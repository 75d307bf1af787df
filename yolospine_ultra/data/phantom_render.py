"""Grey values of the spine phantom: paints the anatomy of one slice as a T1 or T2 image.

Written for this project. Tissue brightness is a table per sequence, chosen by eye to sit in the usual order of
spin-echo images (T2: fluid and fat bright; T1: fat bright, fluid dark); then come the scanner's point spread, the
fall-off of a surface coil, Rician noise and an operator's window.
"""

from __future__ import annotations

import cv2
import numpy as np

from yolospine_ultra.data.phantom_anatomy import Anatomy, Body, Disc, round_corners
from yolospine_ultra.data.phantom_canvas import Canvas, Frame, ellipse

SEQUENCES = ("t1", "t2")

# Brightness 0 to 1 as (T1, T2).
_TISSUE = {
    "skin": (0.45, 0.35),
    "fat": (0.95, 0.90),
    "inner_fat": (0.66, 0.64),
    "organ": (0.36, 0.30),
    "muscle": (0.30, 0.20),
    "ligament": (0.12, 0.07),
    "cortex": (0.10, 0.06),
    "marrow": (0.54, 0.48),
    "annulus": (0.24, 0.11),
    "csf": (0.14, 0.98),
    "cord": (0.36, 0.46),
    "root": (0.24, 0.58),
    "flow": (0.07, 0.05),
    "gas": (0.02, 0.02),
    "water": (0.16, 0.92),
    "vein": (0.34, 0.70),
}
# Nucleus by Pfirrmann grade 1 to 5, (T1, T2).
_NUCLEUS = {1: (0.33, 0.86), 2: (0.33, 0.70), 3: (0.31, 0.40), 4: (0.28, 0.17), 5: (0.22, 0.10)}


class _Painter:
    """Paints one slice back to front onto a canvas."""

    def __init__(self, anatomy: Anatomy, frame: Frame, sequence: str) -> None:
        self.anatomy = anatomy
        self.patient = anatomy.patient
        self.column = SEQUENCES.index(sequence)
        self.canvas = Canvas(frame, self.patient.texture_seed, anatomy.offset_mm)
        self.speckle = 0.03 * self.canvas.texture(12, 1.8)

    def tissue(self, name: str) -> float:
        """Brightness of a tissue in this sequence."""
        return _TISSUE[name][self.column]

    def rng(self, key: int) -> np.random.Generator:
        """The patient's own random numbers for one part of the picture, equal in all slices and sequences."""
        return np.random.default_rng([self.patient.texture_seed, 100 + key])

    def back_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the fascia and the skin of the back lie in every canvas row, mm."""
        canal = self.anatomy.canal
        tips = np.array([p[np.argmax(p[:, 0])] for p in self.anatomy.spinous.values()]) + np.array([3.0, 0.0])
        sacral = canal.edge(canal.front + 20.0, canal.at["L5/S1"] + 50)[::20]
        knots = np.concatenate([tips, sacral])
        knots = knots[np.argsort(knots[:, 1])]
        rows = self.canvas.rows()
        sigma = 11.0 / self.canvas.mm
        fascia = np.interp(rows, knots[:, 1], knots[:, 0])
        fascia = cv2.GaussianBlur(fascia[:, None], (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[:, 0]
        # Fat pads the hollow of the back, so the skin runs straighter than the fascia.
        straight = np.polyval(np.polyfit(rows, fascia, 2), rows)
        thickness = self.patient.back_fat_mm * (0.8 + 0.35 / (1 + np.exp(-(rows + 90) / 25)))
        skin = np.maximum(0.55 * fascia + 0.45 * straight + thickness, fascia + 4.0)
        return fascia, skin

    def front_line(self) -> np.ndarray:
        """Points down the fronts of the bodies, cranial to caudal, (N, 2) mm."""
        stack = [*reversed(self.anatomy.bodies), *self.anatomy.sacrum]
        return np.concatenate([[b.upper[0], b.lower[0]] for b in stack])

    def paint_abdomen(self) -> None:
        """Fat, organs, bowel, great vessel and the belly wall in front of the spine."""
        canvas, rng = self.canvas, self.rng(1)
        folds = canvas.texture(11, 34) + 0.45 * canvas.texture(13, 9, 1.8)
        organ = cv2.GaussianBlur(np.clip(0.65 + 0.9 * folds, 0, 1), (0, 0), 3.0)
        organ *= np.float32(self.tissue("organ") - self.tissue("inner_fat"))
        organ += np.float32(self.tissue("inner_fat"))
        np.add(organ, self.speckle, out=canvas.pixels)
        front = self.front_line()
        middle = front[:, 0].mean()
        rows = canvas.rows()
        for _ in range(int(rng.integers(9, 17))):
            centre = np.array([middle - rng.uniform(22, self.patient.belly_mm), rng.uniform(rows[0], rows[-1])])
            self._bowel(centre, rng)
        # The rectum and bladder in front of the sacrum.
        for x, y in ((-48, 42), (-82, 48), (-20, 66)):
            self._bowel(np.array([x, y]) + rng.normal(0, 6, 2), rng, big=True)
        wall = np.interp(rows, front[:, 1], front[:, 0]) * 0.3 + middle * 0.7 - self.patient.belly_mm
        wall = wall + 6 * np.sin(rows / 55 + rng.uniform(0, 6))
        self._belly_wall(wall, rng)
        self._prevertebral(front, rng)

    def _bowel(self, centre: np.ndarray, rng: np.random.Generator, big: bool = False) -> None:
        """One loop: dark wall, gas, fluid or paste inside."""
        radii = tuple(rng.uniform(12, 22, 2) if big else rng.uniform(4, 13, 2))
        wobble = rng.normal(0, 0.1, 3)
        turn = rng.uniform(0, 180)
        content = rng.choice(("gas", "organ", "water", "flow"), p=(0.35, 0.4, 0.08, 0.17))
        grow = 1 + 0.01 * abs(self.anatomy.offset_mm)
        outer = ellipse(centre, (radii[0] * grow, radii[1] * grow), turn, wobble)
        inner = ellipse(centre, (radii[0] * grow - 1.6, radii[1] * grow - 1.6), turn, wobble)
        value = self.tissue(content) + 0.05 * rng.normal()
        soft = float(rng.uniform(0.8, 3.0))
        strength = 1.0 if big else float(rng.uniform(0.4, 0.95))
        self.canvas.fill(outer, self.tissue("muscle"), soft, 0.7 * strength)
        self.canvas.fill(inner, value, soft, strength, self.speckle if content == "organ" else None)

    def _belly_wall(self, wall: np.ndarray, rng: np.random.Generator) -> None:
        """Muscle of the belly, the fat and skin in front of it, air beyond."""
        thick, fat = float(rng.uniform(7, 12)), float(rng.uniform(8, 30))
        self.canvas.fill_before(wall, self.tissue("muscle"))
        self.canvas.fill_before(wall - thick, self.tissue("fat"))
        self.canvas.fill_before(wall - thick - fat, self.tissue("skin"))
        self.canvas.fill_before(wall - thick - fat - 2, 0.0)

    def _prevertebral(self, front: np.ndarray, rng: np.random.Generator) -> None:
        """Fat in front of the spine and the aorta or the vena cava running down to L4."""
        canvas = self.canvas
        gap = float(rng.uniform(2.5, 7))
        smooth = (front[:-1] + front[1:]) / 2
        reach = np.interp(smooth[:, 1], (-140, 20), (5 + gap, 16 + gap))[:, None] * (1.0, 0.0)
        strands = 0.05 * canvas.texture(15, 4, 3.0)
        band = np.concatenate([smooth - reach, smooth[::-1] + np.array([6.0, 0.0])])
        canvas.fill(band, self.tissue("inner_fat") + 0.12, 1.5, 0.85, strands)
        if rng.random() < 0.75:
            end = float(rng.uniform(-75, -45))
            part = smooth[smooth[:, 1] < end + 20]
            width = float(rng.uniform(9, 17)) * np.clip((end + 24 - part[:, 1]) / 30, 0.25, 1)[:, None]
            width = width * (1 + 0.12 * np.sin(part[:, 1:] / 17 + rng.uniform(0, 6)))
            near = part - (gap + 1.0, 0) - (1.5, 0) * np.sin(part[:, 1:] / 31 + rng.uniform(0, 6))
            tube = round_corners(np.concatenate([near, (near - width * (1.0, 0.0))[::-1]]), 3)
            content = "flow" if rng.random() < 0.75 else "vein"
            canvas.fill(tube, self.tissue(content), 1.3, float(rng.uniform(0.6, 0.9)), strands)

    def paint_back(self) -> None:
        """Muscle and ligaments behind the canal, fascia, fat under the skin, skin and air."""
        canvas, rng = self.canvas, self.rng(2)
        fascia, skin = self.back_lines()
        canal = self.anatomy.canal
        front = np.interp(canvas.rows(), canal.line[:, 1], canal.line[:, 0])
        streaks = canvas.texture(21, 3.2, 2.6) + 0.7 * canvas.texture(22, 9)
        fatty = np.clip(0.5 + 0.5 * (streaks - float(np.interp(self.patient.age, (20, 80), (0.9, 0.1)))), 0, 1)
        muscle = self.tissue("muscle") + fatty * (self.tissue("inner_fat") - self.tissue("muscle"))
        canvas.fill_beyond(front + 4, muscle + self.speckle)
        canvas.fill_beyond(fascia, self.tissue("ligament"))
        septa = np.clip(canvas.texture(24, 3.5, 2.0) - 1.7, 0, 1) * 0.35
        canvas.fill_beyond(fascia + 1.6 + rng.uniform(0, 1.2), self.tissue("fat") - septa)
        canvas.fill_beyond(skin, self.tissue("skin"))
        canvas.fill_beyond(skin + 2.0, 0.0)

    def _bone(self, outline: np.ndarray, marrow: float, grain: np.ndarray, rim_mm: float) -> None:
        """Marrow with a dark cortical rim."""
        self.canvas.fill(outline, marrow, 0.3, grain=grain)
        self.canvas.stroke(outline, rim_mm, self.tissue("cortex"), closed=True, alpha=0.85)

    def marrow(self) -> tuple[float, np.ndarray]:
        """Brightness of the patient's marrow, fattier (brighter) with age, and its texture."""
        canvas = self.canvas
        level = self.tissue("marrow") + float(np.interp(self.patient.age, (20, 80), (-0.05, 0.06)))
        return level, self.speckle + np.float32(0.03) * (canvas.texture(32, 5) + canvas.texture(33, 40))

    def paint_bones(self) -> None:
        """Bodies, sacrum and spinous processes."""
        (marrow, grain), rng = self.marrow(), self.rng(3)
        shown = 0.75 + 0.25 * float(np.exp(-((self.anatomy.offset_mm / 4) ** 2)))
        for outline in self.anatomy.spinous.values():
            self.canvas.fill(outline, marrow + 0.03, 0.4, shown, grain)
            self.canvas.stroke(outline, 0.9, self.tissue("cortex"), closed=True, alpha=0.6)
        for body in (*self.anatomy.sacrum, *self.anatomy.bodies):
            self._bone(body.outline, marrow + 0.03 * rng.normal(), grain, 1.0)
            # Chemical shift thickens one end-plate and thins the other.
            self.canvas.stroke(body.lower + np.array([0.0, 0.3]), 1.1, self.tissue("cortex"), alpha=0.9)
            self._vein(body, rng)
        for lower, upper in zip(self.anatomy.sacrum, self.anatomy.sacrum[1:], strict=False):
            self.canvas.stroke(np.stack([lower.lower[3], upper.upper[-4]]), 2.2, self.tissue("annulus"))
        self._modic(rng)

    def _vein(self, body: Body, rng: np.random.Generator) -> None:
        """The basivertebral vein entering the middle of the back wall."""
        back = (body.lower[-1] + body.upper[-1]) / 2
        axis = back - body.centre
        axis = axis / np.linalg.norm(axis)
        up = np.array([axis[1], -axis[0]])
        length, tall = rng.uniform(4, 10), rng.uniform(1.2, 2.4)
        wedge = np.array([back - 0.5 * axis + up * tall, back - 0.5 * axis - up * tall, back - axis * length])
        self.canvas.fill(wedge, self.tissue("vein"), 0.5, float(rng.uniform(0.2, 0.75)))

    def _modic(self, rng: np.random.Generator) -> None:
        """Fatty (bright in both sequences) or sclerotic (dark) marrow along the end-plates of degenerated discs."""
        for disc in self.anatomy.discs:
            strength, kind, u, reach = rng.uniform(0.25, 0.7), rng.random(), rng.uniform(0.1, 0.5), rng.uniform(3, 7)
            if not disc.state.degenerated:
                continue
            value = self.tissue("fat") * 0.85 if kind < 0.75 else self.tissue("muscle")
            above = disc.plain[:17]
            below = disc.plain[17 + 19 : 17 + 19 + 17][::-1]
            for plate, sign in ((above, -1.0), (below, 1.0)):
                part = plate[int(17 * u) : int(17 * u) + 8]
                band = np.concatenate([part + np.array([0, sign]), part[::-1] + np.array([0, sign * reach])])
                self.canvas.fill(band, value, 1.3, float(strength))

    def paint_discs(self) -> None:
        """Annulus and nucleus of every disc."""
        for k, disc in enumerate(self.anatomy.discs):
            rng = self.rng(40 + k)
            self.canvas.fill(disc.outline, self.tissue("annulus"), 0.3, grain=self.speckle)
            self._nucleus(disc, rng)

    def _nucleus(self, disc: Disc, rng: np.random.Generator) -> None:
        """The nucleus: bright and sharp in a healthy disc, dark and blurred in a worn one."""
        grade = disc.state.pfirrmann
        value = _NUCLEUS[grade][self.column] + 0.04 * rng.normal()
        centre = disc.plain.mean(0)
        back = disc.plain[16] - disc.plain[0]
        back = back / np.linalg.norm(back)
        up = np.array([back[1], -back[0]])
        local = disc.plain - centre
        wide, tall = (0.76, 0.74) if grade <= 2 else (0.68, 0.6)
        shape = centre + np.outer(local @ back, back) * wide + np.outer(local @ up, up) * tall
        feather = {1: 0.7, 2: 0.9, 3: 1.4}.get(grade, 1.2)
        self.canvas.fill(shape, value, feather, grain=self.speckle)
        # A grey cleft runs through the middle of a ripening nucleus.
        if grade in (2, 3) and self.column == 1:
            half = np.linalg.norm(disc.plain[16] - disc.plain[0]) * 0.24
            cleft = np.stack([centre - back * half, centre + back * half])
            self.canvas.stroke(cleft, 1.1, value * 0.6, alpha=0.55)

    def paint_canal(self) -> None:
        """Ligaments, epidural fat, dural sac, cord and nerve roots."""
        canvas, canal = self.canvas, self.anatomy.canal
        s = np.arange(len(canal.line)) * 0.5
        canvas.fill(canal.strip(np.zeros(1), canal.wall + 1.5), self.tissue("ligament"), 0.5)
        # Fat lies between the arches, behind the sac, a little above each disc.
        pad = np.zeros(len(s))
        for i in canal.at.values():
            pad = np.maximum(pad, 6.5 * np.exp(-(((s - s[i] + 5) / 6.5) ** 2)))
        fat = self.tissue("fat") * 0.88
        canvas.fill(canal.strip(canal.wall - 1.0, canal.wall - 1.0 + pad), fat, 0.7, 0.9, self.speckle)
        below = canal.at["L5/S1"] - 10
        canvas.fill(canal.strip(np.full(1, 1.0), canal.wall + 3.0, below), fat, 0.7, 0.9, self.speckle)
        for disc in self.anatomy.discs:
            self._repaint_bulge(disc)
        sac = canal.strip(canal.front, canal.back, 0, canal.sac_end)
        canvas.fill(sac, self.tissue("csf"), 0.25)
        self._crowding()
        self._cord_and_roots()
        for edge in (canal.front - 0.3, canal.back + 0.3):
            canvas.stroke(canal.edge(edge, 0, canal.sac_end), 0.8, self.tissue("ligament"), alpha=0.85)

    def _repaint_bulge(self, disc: Disc) -> None:
        """The bulge lies on top of the canal's ligaments, rimmed by the posterior longitudinal ligament."""
        if disc.state.bulging:
            overhang = np.concatenate([disc.margin, disc.margin[::-1] - (4.0, 0.0)])
            self.canvas.fill(overhang, self.tissue("annulus") + 0.03, 0.35)
            self.canvas.stroke(disc.margin, 0.8, self.tissue("ligament"))

    def _crowding(self) -> None:
        """Where the sac is pinched, roots displace the fluid and its brightness drops."""
        canal = self.anatomy.canal
        for disc in self.anatomy.discs:
            if disc.labelled and disc.state.narrowing > 0.1:
                i = canal.at[disc.state.level]
                part = canal.strip(canal.front, canal.back, max(0, i - 9), i + 10)
                self.canvas.fill(part, self.tissue("root") * 0.8, 1.6, 0.95 * disc.state.narrowing)

    def _cord_and_roots(self) -> None:
        """The cord down to the conus, then the horse's tail of roots along the back of the sac."""
        canal, rng = self.anatomy.canal, self.rng(5)
        n = len(canal.line)
        s = np.arange(n) * 0.5
        room = canal.back - canal.front
        width = np.minimum(7.2 * np.sqrt(np.clip((s[canal.cord_end] - s) / 28, 0.01, 1)), 0.7 * room)
        middle = canal.front + 0.54 * room
        start, end = canal.cord_end - 12, canal.sac_end - 30
        for _ in range(9):
            place = rng.uniform(0.42, 0.92)
            wave = 0.03 * np.sin(s / rng.uniform(14, 30) + rng.uniform(0, 6))
            settle = np.clip((s - s[start]) / 35, 0, 1)
            path = canal.front + room * (0.56 + (place - 0.56) * settle + wave)
            stop = int(rng.uniform(0.55, 1.0) * (end - start)) + start
            line = canal.edge(path, start, max(stop, start + 4))
            self.canvas.stroke(line, 0.8, self.tissue("root"), alpha=float(rng.uniform(0.3, 0.8)))
        cord = canal.strip(middle - width / 2, middle + width / 2, 0, canal.cord_end)
        self.canvas.fill(cord, self.tissue("cord"), 0.5, 0.95)

    def paint(self) -> Canvas:
        """Paint everything, back to front."""
        self.paint_abdomen()
        self.paint_back()
        self.paint_bones()
        self.paint_discs()
        self.paint_canal()
        self.canvas.stroke(self.front_line()[:-2], 0.9, self.tissue("ligament"), alpha=0.7)
        return self.canvas


def _coil(frame: Frame, skin_x: float, rng: np.random.Generator) -> np.ndarray:
    """Sensitivity of a surface coil behind the back, (size, size), 1 near the skin and falling to the front."""
    axis = np.arange(frame.size, dtype=np.float32) * frame.mm_per_px
    depth = np.maximum(skin_x - frame.origin[0] - axis, 0)
    reach = float(rng.uniform(70, 190))
    floor = float(rng.uniform(0.08, 0.45))
    across = floor + (1 - floor) * np.exp(-depth / reach)
    side = frame.size * frame.mm_per_px
    centre, spread = rng.uniform(0.4, 0.62) * side, rng.uniform(0.55, 1.0) * side
    along = np.exp(-0.5 * ((axis - centre) / spread) ** 2)
    return along[:, None] * across[None, :]


def render(anatomy: Anatomy, frame: Frame, sequence: str, rng: np.random.Generator) -> np.ndarray:
    """Render one slice.

    Args:
        anatomy: shapes of the slice.
        frame: where the image lies on them.
        sequence: "t1" or "t2".
        rng: the acquisition: coil, noise and window.

    Returns:
        uint8 image (size, size), 0 black.
    """
    painter = _Painter(anatomy, frame, sequence)
    skin = painter.back_lines()[1]
    signal = np.clip(painter.paint().averaged(float(rng.uniform(0.35, 0.6))), 0, None)
    signal = signal * _coil(frame, float(skin.mean()), rng)
    noise = rng.standard_normal((2, frame.size, frame.size), dtype=np.float32)
    noise = np.stack([cv2.GaussianBlur(n, (0, 0), 0.5) for n in noise]) * np.float32(rng.uniform(0.006, 0.022))
    measured = np.hypot(signal + noise[0], noise[1])
    # The operator windows on the spine: the bodies end up mid-grey whatever the coil did to them.
    pixels = frame.to_px(np.array([body.centre for body in anatomy.bodies[:5]]))
    columns, rows = np.clip(pixels.round().astype(int), 0, frame.size - 1).T
    bone = float(np.median(cv2.GaussianBlur(measured, (0, 0), 3.0)[rows, columns]))
    target = float(rng.uniform(0.36, 0.62))
    grey = np.clip(measured / bone * target, 0, 1) ** float(rng.uniform(0.9, 1.15))
    return np.round(grey * 255).astype(np.uint8)
