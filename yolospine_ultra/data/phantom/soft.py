"""Everything around the spine in the phantom: abdomen, pelvis, great vessels, muscles of the back, fat, skin, air.

Written for this project; none of it is labelled. It is painted at image size, since it is seen through motion and
partial volume anyway.
"""

from __future__ import annotations

import cv2
import numpy as np

from yolospine_ultra.data.phantom.anatomy import Anatomy, round_corners
from yolospine_ultra.data.phantom.canvas import Canvas, ellipse


class SoftPainter:
    """Paints the surroundings of one slice.

    Args:
        anatomy: shapes of the slice.
        canvas: painted on.
        tissue: brightness by tissue name.
    """

    def __init__(self, anatomy: Anatomy, canvas: Canvas, tissue: dict[str, float]) -> None:
        self.anatomy = anatomy
        self.patient = anatomy.patient
        self.canvas = canvas
        self.tissue = tissue
        self.speckle = 0.035 * canvas.texture(12, 1.9)
        self.rows = canvas.rows()
        stack = [*reversed(anatomy.bodies), *anatomy.sacrum]
        # Points down the fronts of the bodies, cranial to caudal.
        self.front = np.concatenate([[b.upper[0], b.lower[0]] for b in stack])
        self.fascia, self.skin = self._back_lines()

    def rng(self, key: int) -> np.random.Generator:
        """The patient's own random numbers for one part of the picture, equal in all slices and sequences."""
        return np.random.default_rng([self.patient.texture_seed, 100 + key])

    def paint(self) -> None:
        """Paint everything, back to front."""
        self._abdomen()
        self._pelvis()
        self._vessels()
        self._back()

    def _abdomen(self) -> None:
        """Fat, organs and bowel in front of the spine, smeared by breathing, and the belly wall."""
        canvas, rng, tissue = self.canvas, self.rng(1), self.tissue
        folds = 0.8 * canvas.texture(11, 26, 1.6) + canvas.texture(13, 9, 2.2) + 0.8 * canvas.texture(14, 3.5, 2.2)
        fatty = np.float32(rng.uniform(-0.9, 0.7))  # lean or stout inside
        dark = tissue["organ"] * rng.uniform(0.4, 0.9)
        mix = np.clip(0.5 + 0.5 * (folds + fatty), 0, 1)
        mix *= np.float32(tissue["inner_fat"] * 1.15 - dark)
        mix += np.float32(dark)
        canvas.pixels[:] = mix
        middle = self.front[:, 0].mean()
        for _ in range(int(rng.integers(8, 15))):
            self._bowel(np.array([middle - rng.uniform(25, self.patient.belly_mm), rng.choice(self.rows)]), rng)
        smear = max(3, round(rng.uniform(8, 22) / canvas.mm))
        canvas.pixels += np.float32(rng.uniform(0.35, 0.8)) * (cv2.blur(canvas.pixels, (1, smear)) - canvas.pixels)
        canvas.pixels += self.speckle
        wall = np.interp(self.rows, self.front[:, 1], self.front[:, 0]) * 0.3 + middle * 0.7 - self.patient.belly_mm
        wall = wall + 6 * np.sin(self.rows / 55 + rng.uniform(0, 6))
        muscle, fat = float(rng.uniform(7, 12)), float(rng.uniform(8, 30))
        strands = 1 + np.float32(0.12) * canvas.texture(17, 7, 2.0)
        canvas.fill_before(wall, tissue["muscle"] * strands, 2.0)
        canvas.fill_before(wall - muscle, tissue["fat"] * strands, 2.0)
        canvas.fill_before(wall - muscle - fat, tissue["skin"])
        canvas.fill_before(wall - muscle - fat - 2, 0.0)

    def _bowel(self, centre: np.ndarray, rng: np.random.Generator) -> None:
        """One loop: dark wall, gas, fluid or paste inside, mostly blurred."""
        radii = rng.uniform(4, 13, 2)
        wobble, turn = rng.normal(0, 0.1, 3), rng.uniform(0, 180)
        content = rng.choice(("gas", "organ", "water", "flow"), p=(0.3, 0.45, 0.07, 0.18))
        grow = 1 + 0.01 * abs(self.anatomy.offset_mm)
        soft, strength = float(rng.uniform(1.0, 3.0)), float(rng.uniform(0.35, 0.9))
        self.canvas.fill(
            ellipse(centre, tuple(radii * grow), turn, wobble), self.tissue["muscle"], soft, 0.6 * strength
        )
        value = self.tissue[content] + 0.05 * rng.normal()
        self.canvas.fill(ellipse(centre, tuple(radii * grow - 1.6), turn, wobble), value, soft, strength)

    def _pelvis(self) -> None:
        """Fat in front of the sacrum, in it the rectum, further forward bladder and bowel."""
        canvas, rng, tissue = self.canvas, self.rng(6), self.tissue
        sacrum = np.array([p for b in self.anatomy.sacrum for p in (b.upper[0], b.lower[0])])
        depth = np.linspace(rng.uniform(8, 22), rng.uniform(45, 75), len(sacrum))[:, None]
        fat = round_corners(np.concatenate([sacrum - (2.0, 0.0), (sacrum - depth * (1.0, -0.25))[::-1]]), 3)
        strands = 0.1 * canvas.texture(15, 5, 2.0)
        canvas.fill(fat, tissue["inner_fat"] * 1.3, 3.0, float(rng.uniform(0.75, 1.0)), strands)
        low = sacrum[4]
        wobble = rng.normal(0, 0.1, 3)
        for reach, size, chance, contents in (
            (26, (9, 17), 0.9, ("organ", "gas", "flow", "muscle")),
            (62, (15, 26), 0.75, ("water", "organ", "organ")),
            (96, (10, 22), 0.7, ("organ", "gas", "water")),
        ):
            centre = low + np.array([-reach, 12.0]) + rng.normal(0, 8, 2)
            radii, turn, content = rng.uniform(*size, 2), rng.uniform(0, 180), rng.choice(contents)
            if rng.random() < chance:
                canvas.fill(ellipse(centre, tuple(radii), turn, wobble), tissue["muscle"], 1.2, 0.85)
                inner = ellipse(centre, tuple(radii - rng.uniform(1.5, 3.5)), turn, wobble)
                canvas.fill(inner, tissue[content] * float(rng.uniform(0.75, 1.15)), 1.6, 0.9, self.speckle)

    def _vessels(self) -> None:
        """Fat in front of the spine; aorta or vena cava down to L4, now and then a branch in front of L5."""
        canvas, rng, tissue = self.canvas, self.rng(2), self.tissue
        gap = float(rng.uniform(1.5, 6))
        smooth = (self.front[:-1] + self.front[1:]) / 2
        reach = np.interp(smooth[:, 1], (-140, 20), (4 + gap, 16 + gap))[:, None] * (1.0, 0.0)
        strands = 0.07 * canvas.texture(16, 4, 3.5)
        band = np.concatenate([smooth - reach, smooth[::-1] + np.array([6.0, 0.0])])
        canvas.fill(band, tissue["inner_fat"] * 1.1, 2.0, 0.8, strands)
        if rng.random() < 0.75:
            end = float(rng.uniform(-80, -45))
            part = smooth[smooth[:, 1] < end + 20]
            width = float(rng.uniform(10, 19)) * np.clip((end + 24 - part[:, 1]) / 30, 0.25, 1)[:, None]
            width = width * (1 + 0.12 * np.sin(part[:, 1:] / 17 + rng.uniform(0, 6)))
            near = part - (gap + 1.0, 0) - (1.5, 0) * np.sin(part[:, 1:] / 31 + rng.uniform(0, 6))
            tube = round_corners(np.concatenate([near, (near - width * (1.0, 0.0))[::-1]]), 3)
            content = "flow" if rng.random() < 0.8 else "vein"
            canvas.fill(tube, tissue[content], 1.5, float(rng.uniform(0.6, 0.95)), 0.6 * strands)
        if rng.random() < 0.6:
            centre = self.anatomy.body("L5").lower[0] + np.array([-8 - gap, rng.uniform(-14, 8)])
            oval = ellipse(centre, (rng.uniform(2.5, 5), rng.uniform(5, 10)), rng.uniform(-30, 10), np.zeros(1))
            canvas.fill(oval, tissue["flow"], 1.0, 0.8)

    def _back_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the fascia and the skin of the back lie in every canvas row, mm."""
        canal, rng = self.anatomy.canal, self.rng(7)
        tips = np.array([p[np.argmax(p[:, 0])] for p in self.anatomy.spinous.values()]) + np.array([3.0, 0.0])
        sacral = canal.edge(canal.front + 20.0, canal.at["L5/S1"] + 50)[::20]
        knots = np.concatenate([tips, sacral])
        knots = knots[np.argsort(knots[:, 1])]
        fascia = np.interp(self.rows, knots[:, 1], knots[:, 0])
        sigma = 11.0 / self.canvas.mm
        fascia = cv2.GaussianBlur(fascia[:, None], (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[:, 0]
        # Fat pads the hollow of the back, so the skin runs straighter than the fascia; lying on it flattens it further.
        straight = np.polyval(np.polyfit(self.rows, fascia, 1), self.rows)
        thickness = self.patient.back_fat_mm * (0.75 + rng.uniform(0.1, 0.7) / (1 + np.exp(-(self.rows + 70) / 25)))
        flat = rng.uniform(0.5, 1.0)
        waves = sum(a * np.sin(self.rows / w + rng.uniform(0, 6)) for a, w in ((1.2, 26), (0.6, 11), (0.3, 5)))
        skin = np.maximum((1 - flat) * fascia + flat * straight + thickness + waves, fascia + 4.0)
        return fascia, skin

    def _back(self) -> None:
        """Muscle behind the canal with fat between its fibres, fascia, fat under the skin, skin and air."""
        canvas, rng, tissue = self.canvas, self.rng(3), self.tissue
        fascia, skin = self.fascia, self.skin
        canal = self.anatomy.canal
        front = np.interp(self.rows, canal.line[:, 1], canal.line[:, 0])
        streaks = canvas.texture(21, 2.6, 4.5) + 0.8 * canvas.texture(22, 8, 1.6)
        lean = float(np.interp(self.patient.age, (20, 80), (1.2, 0.0))) + rng.normal(0, 0.4)
        fatty = np.clip(0.5 + 0.55 * (streaks - np.float32(lean)), 0, 1)
        muscle = tissue["muscle"] + fatty * (tissue["inner_fat"] * 1.1 - tissue["muscle"])
        canvas.fill_behind(front + 4, muscle + self.speckle)
        canvas.fill_behind(fascia, tissue["ligament"])
        # Septa run through the fat where a smooth field passes through zero.
        septa = np.exp(-((canvas.texture(24, 13, 0.8) + 0.35 * canvas.texture(25, 4)) ** 2) * np.float32(160.0))
        septa *= np.float32(rng.uniform(0.15, 0.5)) * np.clip(canvas.texture(26, 30) + 0.6, 0, 1)
        fat = tissue["fat"] * (1 - septa + np.float32(0.05) * canvas.texture(27, 22))
        canvas.fill_behind(fascia + 1.0 + rng.uniform(0, 1.2), fat + 0.5 * self.speckle)
        canvas.fill_behind(skin, tissue["skin"])
        canvas.fill_behind(skin + rng.uniform(1.0, 2.0), 0.0)
