"""The spine of the phantom in grey: bones, discs, the canal with its fluid, cord, roots and ligaments.

Written for this project. Shapes come from `anatomy` as they are, so that labels and pixels agree.
"""

from __future__ import annotations

import numpy as np

from yolospine_ultra.data.phantom.anatomy import Anatomy, Body, Disc
from yolospine_ultra.data.phantom.canvas import Canvas, ellipse
from yolospine_ultra.data.phantom.patient import BULGE_MM
from yolospine_ultra.data.phantom.tissue import nucleus


class SpinePainter:
    """Paints the spine of one slice.

    Args:
        anatomy: shapes of the slice.
        canvas: painted on; holds the surroundings already.
        tissue: brightness by tissue name.
        sequence: "t1", "t2" or "t2_space".
    """

    def __init__(self, anatomy: Anatomy, canvas: Canvas, tissue: dict[str, float], sequence: str) -> None:
        self.anatomy = anatomy
        self.patient = anatomy.patient
        self.canvas = canvas
        self.tissue = tissue
        self.sequence = sequence
        self.speckle = canvas.texture(31, 1.6)

    def rng(self, key: int) -> np.random.Generator:
        """The patient's own random numbers for one part of the picture, equal in all slices and sequences."""
        return np.random.default_rng([self.patient.texture_seed, 200 + key])

    def paint(self) -> None:
        """Paint everything, back to front."""
        level = self.tissue["marrow"] * float(np.interp(self.patient.age, (20, 80), (0.88, 1.14)))
        blotches = self.canvas.texture(32, 4.5) + 0.7 * self.canvas.texture(33, 13)
        grain = np.float32(level) * (np.float32(0.075) * self.speckle + np.float32(0.06) * blotches)
        self._posterior(level, grain, blotches)
        self._bodies(level, grain)
        for k, disc in enumerate(self.anatomy.discs):
            self._disc(disc, self.rng(40 + k))
        self._canal()
        front = np.concatenate([[b.upper[0], b.lower[0]] for b in reversed(self.anatomy.bodies)])
        self.canvas.stroke(front, 0.8, self.tissue["ligament"], alpha=0.6)

    def _posterior(self, marrow: float, grain: np.ndarray, blotches: np.ndarray) -> None:
        """Ligaments and fat between the spinous processes, and the processes; seldom cut exactly in the middle."""
        canvas, rng, tissue, canal = self.canvas, self.rng(1), self.tissue, self.anatomy.canal
        shapes = list(self.anatomy.spinous.values())
        tips = np.array([s[np.argmax(s[:, 0])] for s in shapes])
        band = np.concatenate([canal.edge(canal.wall, 0, canal.at["L5/S1"] + 16)[::6], tips])
        low, high = tissue["ligament"] * 2, tissue["fat"] * 0.6
        streaks = np.clip(0.7 * canvas.texture(34, 9, 0.45) + 0.35 * blotches + rng.normal(-0.4, 0.3), -1, 1)
        streaks *= np.float32((high - low) / 2)
        canvas.fill(band, (low + high) / 2, 1.2, float(rng.uniform(0.5, 0.85)), streaks)
        shown = float(rng.uniform(0.75, 1.0) * (0.7 + 0.3 * np.exp(-((self.anatomy.offset_mm / 4) ** 2))))
        for outline in shapes:
            soft = float(rng.uniform(0.5, 1.0))
            canvas.stroke(outline, 1.6, tissue["cortex"], closed=True, alpha=0.7 * shown)
            canvas.fill(outline, marrow * float(rng.uniform(0.75, 1.1)), soft, shown, 1.8 * grain)

    def _bodies(self, marrow: float, grain: np.ndarray) -> None:
        """Vertebral bodies and sacrum: marrow, a dark rim, the vein from behind, fatty or hard patches."""
        canvas, rng, tissue = self.canvas, self.rng(3), self.tissue
        for body in (*self.anatomy.sacrum, *self.anatomy.bodies):
            canvas.fill(body.outline, marrow * (1 + 0.05 * rng.normal()), 0.3, grain=grain)
            canvas.stroke(body.outline, 0.75, tissue["cortex"], closed=True, alpha=0.7)
            # Chemical shift thickens one end-plate and thins the other.
            canvas.stroke(body.lower + np.array([0.0, 0.2]), 0.9, tissue["cortex"], alpha=0.85)
            if body.name[0] != "S":
                self._vein(body, rng)
                self._patches(body, rng)
        for lower, upper in zip(self.anatomy.sacrum, self.anatomy.sacrum[1:], strict=False):
            reach = slice(int(rng.integers(2, 8)), int(rng.integers(10, 15)))
            line = (lower.lower[reach] + upper.upper[reach]) / 2
            canvas.stroke(line, float(rng.uniform(1.4, 2.6)), tissue["annulus"], alpha=0.9)
        self._modic(self.rng(4))

    def _vein(self, body: Body, rng: np.random.Generator) -> None:
        """The basivertebral vein entering the middle of the back wall."""
        back = (body.lower[-1] + body.upper[-1]) / 2
        axis = back - body.centre
        axis = axis / np.linalg.norm(axis)
        up = np.array([axis[1], -axis[0]])
        length, tall, strength = rng.uniform(4, 11), rng.uniform(0.8, 2.4), float(rng.uniform(0.1, 0.75))
        wedge = np.array([back - 0.6 * axis + up * tall, back - 0.6 * axis - up * tall, back - axis * length])
        self.canvas.fill(wedge, self.tissue["vein"], 0.6, strength)

    def _patches(self, body: Body, rng: np.random.Generator) -> None:
        """Islands of fat or red marrow, and the haemangioma that one body in fifteen has."""
        span, rise = body.lower[-1] - body.lower[0], body.upper[0] - body.lower[0]
        for chance, size, value, alpha in (
            (0.7, (2, 5), self.tissue["inner_fat"], 0.45),
            (0.5, (3, 7), self.tissue["organ"], 0.3),
            (0.07, (3, 7), self.tissue["fat"], 0.8),
        ):
            place, radii, strength = rng.uniform(0.15, 0.85, 2), rng.uniform(*size, 2), rng.uniform(0.3, 1)
            if rng.random() < chance:
                centre = body.lower[0] + span * place[0] + rise * place[1]
                self.canvas.fill(ellipse(centre, tuple(radii), 0, rng.normal(0, 0.15, 3)), value, 1.6, alpha * strength)

    def _modic(self, rng: np.random.Generator) -> None:
        """Fatty (bright) or sclerotic (dark) marrow along the end-plates of worn discs."""
        for disc in self.anatomy.discs:
            strength, kind, u, reach = rng.uniform(0.25, 0.8), rng.random(), rng.uniform(0.0, 0.5), rng.uniform(3, 9)
            if not disc.state.degenerated:
                continue
            value = self.tissue["fat"] * 0.85 if kind < 0.7 else self.tissue["muscle"]
            for plate, sign in ((disc.upper_plate, -1.0), (disc.lower_plate, 1.0)):
                part = plate[int(17 * u) : int(17 * u) + 8]
                bow = np.sin(np.linspace(0.3, np.pi - 0.3, len(part)))[:, None] * (0.0, reach)
                band = np.concatenate([part + np.array([0, 0.7 * sign]), (part + sign * bow)[::-1]])
                self.canvas.fill(band, value, 1.3, float(strength))

    def _disc(self, disc: Disc, rng: np.random.Generator) -> None:
        """Annulus and nucleus: bright with a soft edge in a young disc, dark and uniform in a worn one."""
        canvas, wear = self.canvas, disc.state.wear
        value = nucleus(self.sequence, wear) * float(1 + 0.08 * rng.normal())
        grain = np.float32(0.05 + 0.25 * value) * np.float32(0.2) * self.speckle
        canvas.fill(disc.outline, self.tissue["annulus"], 0.3, grain=grain)
        back = disc.plain[16] - disc.plain[0]
        length = float(np.linalg.norm(back))
        back = back / length
        up = np.array([back[1], -back[0]])
        centre = disc.plain.mean(0) + 0.02 * length * back
        local = disc.plain - centre
        wide = float(np.interp(wear, (0, 2, 4), (0.74, 0.7, 0.6))) + 0.03 * rng.normal()
        tall = float(np.interp(wear, (0, 2, 4), (0.92, 0.82, 0.5)))
        shape = centre + np.outer(local @ back, back) * wide + np.outer(local @ up, up) * tall
        feather = float(np.interp(wear, (0, 1.5, 3), (1.0, 1.5, 2.0)))
        canvas.fill(shape, value, feather, 1.0, grain)
        # A dark cleft of fibres runs through the middle of a ripe nucleus, fluid or gas through a collapsed one.
        half = length * rng.uniform(0.16, 0.3)
        bend = np.array([[0.0], [0.5 * rng.normal()], [0.0]]) * up
        cleft = np.stack([centre - back * half, centre, centre + back * half]) + bend
        strength, crack = float(rng.uniform(0.15, 0.6)), rng.random()
        if self.sequence != "t1" and wear < 3:
            canvas.stroke(cleft, 1.3, value * 0.5, alpha=strength)
        elif wear > 4 and crack < 0.4:
            fluid = self.sequence != "t1" and crack < 0.15
            canvas.stroke(cleft, 1.4, self.tissue["water" if fluid else "gas"], alpha=strength)
        # High-signal zone: a tear at the back of the annulus.
        if crack > 0.85 and wear > 1.5 and self.sequence != "t1":
            spot = disc.margin[10] - 1.8 * back
            canvas.fill(ellipse(spot, (0.9, 1.6), 0, np.zeros(1)), self.tissue["water"], 0.6, 0.6)

    def _canal(self) -> None:
        """Ligaments, epidural fat, dural sac, cord and nerve roots."""
        canvas, canal, tissue, rng = self.canvas, self.anatomy.canal, self.tissue, self.rng(6)
        s = np.arange(len(canal.line)) * 0.5
        canvas.fill(canal.strip(np.zeros(1), canal.front + 3.0), tissue["ligament"], 0.5)
        canvas.fill(canal.strip(canal.front + 3.0, canal.wall + 1.2), tissue["flavum"], 0.5)
        # Fat lies between the arches, behind the sac, a little above each disc; the yellow ligament takes its place.
        pad = np.zeros(len(s))
        for level, i in canal.at.items():
            room = rng.uniform(2.5, 7.5) * (1 - min(0.8, 1.3 * canal.narrowing(level)))
            pad = np.maximum(pad, room * np.exp(-(((s - s[i] + rng.uniform(3, 7)) / rng.uniform(5, 8)) ** 2)))
        fat = tissue["fat"] * 0.92
        canvas.fill(canal.strip(canal.wall - 0.8, canal.wall - 0.8 + pad), fat, 0.6, 0.92, 0.03 * self.speckle)
        below = canal.at["L5/S1"] - 10
        canvas.fill(canal.strip(np.full(1, 1.0), canal.wall + 2.0, below), fat * 0.95, 0.8, 0.85, 0.06 * self.speckle)
        for disc in self.anatomy.discs:
            self._bulge(disc)
        sac = canal.strip(canal.front, canal.back, 0, canal.sac_end)
        canvas.fill(sac, tissue["csf"], 0.35)
        self._crowding()
        self._cord_and_roots(self.rng(5))
        dura = [(canal.edge(canal.front - 0.3, 0, canal.sac_end), 0.75)]
        dura += [(canal.edge(canal.back + 0.3, 0, canal.sac_end), 0.5)]
        canvas.strokes(dura, 0.8, tissue["ligament"])

    def _bulge(self, disc: Disc) -> None:
        """A bulge lies on top of the canal's ligaments, rimmed by the posterior longitudinal ligament."""
        if disc.bulge_mm > 0.5 * BULGE_MM:
            overhang = np.concatenate([disc.margin, disc.margin[::-1] - (4.0, 0.0)])
            self.canvas.fill(overhang, self.tissue["bulge"], 0.4)
            self.canvas.stroke(disc.margin, 0.8, self.tissue["ligament"], alpha=0.8)

    def _crowding(self) -> None:
        """Where the sac is pinched, roots displace the fluid and its signal moves to theirs."""
        canal = self.anatomy.canal
        for level, i in canal.at.items():
            narrowing = canal.narrowing(level)
            if narrowing > 0.1:
                part = canal.strip(canal.front, canal.back, max(0, i - 9), i + 10)
                self.canvas.fill(part, self.tissue["root"] * 0.8, 1.6, min(1.0, 1.1 * narrowing))

    def _cord_and_roots(self, rng: np.random.Generator) -> None:
        """The cord down to the conus, then the horse's tail of roots along the back of the sac."""
        canal, canvas, tissue = self.anatomy.canal, self.canvas, self.tissue
        s = np.arange(len(canal.line)) * 0.5
        room = canal.back - canal.front
        width = np.minimum(7.4 * np.sqrt(np.clip((s[canal.cord_end] - s) / 28, 0.01, 1)), 0.65 * room)
        middle = canal.front + 0.54 * room
        start, end = canal.cord_end - 12, canal.sac_end - 30
        crowd = canal.edge(canal.front + 0.5 * room, start, end), canal.edge(canal.front + 0.93 * room, start, end)
        canvas.fill(np.concatenate([crowd[0], crowd[1][::-1]]), tissue["root"], 1.8, float(rng.uniform(0.05, 0.35)))
        roots = []
        for _ in range(8):
            place = rng.uniform(0.42, 0.93)
            wave = 0.03 * np.sin(s / rng.uniform(14, 30) + rng.uniform(0, 6))
            settle = np.clip((s - s[start]) / 35, 0, 1)
            path = canal.front + room * (0.56 + (place - 0.56) * settle + wave)
            stop = int(rng.uniform(0.55, 1.0) * (end - start)) + start
            roots.append((canal.edge(path, start, max(stop, start + 4))[::3], float(rng.uniform(0.15, 0.6))))
        canvas.strokes(roots, 0.7, tissue["root"])
        cord = canal.strip(middle - width / 2, middle + width / 2, 0, canal.cord_end)
        canvas.fill(cord, tissue["cord"], 0.7, 0.92)
