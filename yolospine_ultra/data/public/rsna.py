"""RSNA 2024 Lumbar Spine Degenerative Classification: DICOM series to mid-sagittal T2 pictures.

Format: `train_images/STUDY/SERIES/INSTANCE.dcm`; `train_series_descriptions.csv` (study_id, series_id,
series_description: "Sagittal T2/STIR", "Sagittal T1", "Axial T2"); `train_label_coordinates.csv` (study_id, series_id,
instance_number, condition, level, x, y; pixels of that instance); `train.csv` (study_id and a severity,
Normal/Mild, Moderate or Severe, for each condition and level, as `spinal_canal_stenosis_l4_l5`). 1,975 studies.

WHAT RSNA DOES NOT HAVE: boxes, and anything about discs (degeneration, bulges, slips, normal discs). The 300-image
external set of the YOLOspine paper was annotated by its authors and is not public. So this converter gives

- pictures: of each study the sagittal T2 plane nearest to the mean position of its canal coordinates (the middle of the
  stack where it has none);
- SS boxes where they can be had honestly: 14 x 19 mm around the coordinate of each level whose spinal canal stenosis is
  graded Moderate or Severe. The size is our choice: the medians of 15 stenosis boxes in published label files of the
  paper's dataset are 0.38 by 0.51 of a disc box's width, here taken as 37 mm. The other classes are NOT labelled, so
  such a dataset serves for SS alone;
- the external set, if you bring boxes: `annotations` takes a CSV or COCO file of your own, and its counts are compared
  with those of the paper.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ultralytics.utils import TQDM

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.data.public.annotations import Annotations, read_annotations
from yolospine_ultra.data.public.classes import DISORDERS, SS
from yolospine_ultra.data.public.planes import square_pixels
from yolospine_ultra.data.public.report import Comparison, Report, compare
from yolospine_ultra.data.public.staging import SHARES, Box, Staging, require_images, staging
from yolospine_ultra.data.public.tables import read_table, whole_number
from yolospine_ultra.data.splits import check_shares

if TYPE_CHECKING:
    from yolospine_ultra.data.scans import Scan

PUBLISHED_STUDIES = 1975
EXTERNAL_IMAGES = 300
EXTERNAL_LABELS = {"IVDn": 843, "SS": 645, "LDB": 556, "DDD": 357, "TDB": 89, "SP": 72}
STENOSIS_MM = (14.0, 19.0)  # from front to back, from head to feet
LEVELS = ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")

_SERIES = "sagittal t2/stir"
_CONDITION = "spinal canal stenosis"
_SEVERITIES = ("normal/mild", "moderate", "severe")
_FROM = {"moderate": {"moderate", "severe"}, "severe": {"severe"}, "none": set()}


@dataclass(frozen=True)
class _Point:
    """One canal coordinate: pixels (x, y) of an instance."""

    level: str
    instance: int
    x: float
    y: float


@dataclass(frozen=True)
class _Plane:
    """The chosen plane: grey picture, and where the points of its instance lie in it."""

    image: np.ndarray
    mm_per_px: float | None
    points: dict[str, tuple[float, float]]
    instance: str


class _Tables:
    """The CSV files of the download."""

    def __init__(self, root: Path, stenosis: bool, problems: list[Problem]) -> None:
        self.series: dict[str, list[str]] = {}
        self.points: dict[tuple[str, str], list[_Point]] = {}
        self.grades: dict[str, dict[str, str]] = {}
        name = "train_series_descriptions.csv"
        for _, row in read_table(root / name, ("study_id", "series_id", "series_description"), problems):
            if row["series_description"].lower() == _SERIES:
                self.series.setdefault(row["study_id"], []).append(row["series_id"])
        name = "train_label_coordinates.csv"
        if stenosis or (root / name).is_file():
            self._read_points(root / name, problems)
        if stenosis or (root / "train.csv").is_file():
            self._read_grades(root / "train.csv", problems)

    def _read_points(self, file: Path, problems: list[Problem]) -> None:
        columns = ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")
        for line, row in read_table(file, columns, problems):
            if row["condition"].lower() != _CONDITION:
                continue
            instance, level = whole_number(row["instance_number"]), row["level"].upper().replace("_", "/")
            try:
                x, y = float(row["x"]), float(row["y"])
            except ValueError:
                x = y = float("nan")
            if instance is None or level not in LEVELS or not (0 <= x < 1e5 and 0 <= y < 1e5):
                detail = (
                    f"instance {row['instance_number']}, level {row['level']}, x {row['x']}, y {row['y']}; left out"
                )
                problems.append(Problem(file.name, "coordinate", detail, line))
                continue
            key = (row["study_id"], row["series_id"])
            self.points.setdefault(key, []).append(_Point(level, instance, x, y))

    def _read_grades(self, file: Path, problems: list[Problem]) -> None:
        columns = {level: f"spinal_canal_stenosis_{level.lower().replace('/', '_')}" for level in LEVELS}
        for line, row in read_table(file, ("study_id", *columns.values()), problems):
            found = self.grades.setdefault(row["study_id"], {})
            for level, column in columns.items():
                if row[column].lower() in _SEVERITIES:
                    found[level] = row[column].lower()
                else:
                    detail = f"study {row['study_id']}: {column} is {row[column]!r}, expected a severity; not labelled"
                    problems.append(Problem(file.name, "grade", detail, line))


def prepare_rsna(
    source: str | Path,
    out: str | Path,
    annotations: str | Path | None = None,
    images: int | None = None,
    stenosis: str = "moderate",
    split: str = "patient",
    shares: dict[str, float] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Convert the RSNA 2024 download; see the top of this file for what its labels are worth.

    Args:
        source: folder with `train_images` and the CSV files.
        out: folder to write; must not exist, or be empty.
        annotations: boxes of your own on pictures named `STUDY_SERIES.png`, as `read_annotations` takes them. Only the
            images it names are written, with its boxes alone.
        images: at most so many studies, drawn with `seed` (the paper's external set has 300); by default all.
        stenosis: from which severity on a level gets an SS box: "moderate", "severe", or "none" for pictures without
            labels. With `annotations` it has no effect.
        split: "patient" draws splits by study; "external" puts all images into "test".
        shares: of the splits "train", "val", "test" where they are drawn; by default 0.7, 0.2, 0.1.
        seed: of the splits and of the draw.
        progress: show a progress bar.

    Returns:
        The report, also in `out/report.json`.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: as in `prepare_mendeley`.
        ImportError: a package of the extra `dicom` is missing.
    """
    if split not in ("patient", "external") or stenosis not in _FROM:
        raise ValueError(f"split={split}, stenosis={stenosis}: choose patient or external; {', '.join(_FROM)}")
    if images is not None and images < 1:
        raise ValueError(f"images={images}: need at least 1")
    check_shares(shares or SHARES, seed)
    source = Path(source)
    report = Report("RSNA 2024 lumbar spine", str(source), str(out), reference="README of the paper; Kaggle")
    with staging(out, DISORDERS, report) as stage:
        root = _root(source)
        own = read_annotations(annotations, report.problems) if annotations else None
        tables = _Tables(root, own is None and stenosis != "none", report.problems)
        studies = _studies(root, tables, own, report)
        order = np.random.default_rng(seed).permutation(len(studies)) if images else np.arange(len(studies))
        for k in TQDM(order, desc="rsna", unit="study", disable=not progress):
            if images and len(stage.images) >= images:
                break
            _add_study(stage, root, *studies[k], tables, own, _FROM[stenosis])
        require_images(stage)
        _describe(stage, len(tables.grades), own, stenosis)
        if split == "external":
            chosen, names = ["test"] * len(stage.images), ("test",)
        else:
            chosen, names = stage.split_by_patient(shares or SHARES, seed), tuple(shares or SHARES)
        what = "boxes of the annotation file" if own else f"SS boxes from coordinates ({stenosis}); no other class"
        stage.finish(chosen, names, f"RSNA 2024 lumbar spine, converted: {what}; see report.json.")
    return report


def _root(source: Path) -> Path:
    """The folder with `train_images`, `source` or one below it."""
    if source.is_dir():
        for root in (source, *sorted(f for f in source.iterdir() if f.is_dir())):
            if (root / "train_images").is_dir():
                return root
    raise FileNotFoundError(f"{source} has no folder train_images; expected the unpacked RSNA 2024 download.")


def _studies(root: Path, tables: _Tables, own: Annotations | None, report: Report) -> list[tuple[str, str]]:
    """Study and sagittal T2 series of every study that can be used."""
    problems, chosen, used = report.problems, [], set()
    folders = {f.name: f for f in sorted((root / "train_images").iterdir()) if f.is_dir()}
    wanted = None if own is None else set(own.boxes)
    for study in folders:
        named = tables.series.get(study, [])
        there = [s for s in named if (folders[study] / s).is_dir()]
        if wanted is not None:
            keys = [(s, key) for s in there for key in (f"{study}_{s}", study) if key in wanted]
            if keys:
                chosen.append((study, keys[0][0]))
                used.add(keys[0][1])
            continue
        place = f"train_images/{study}"
        if not named:
            problems.append(Problem(place, "missing-row", "no series 'Sagittal T2/STIR' in the descriptions; left out"))
        elif not there:
            problems.append(Problem(place, "missing", f"no folder of series {', '.join(named)}; left out"))
        else:
            # of several, the one that the annotators marked; else the first by name
            chosen.append((study, min(there, key=lambda s: ((study, s) not in tables.points, s))))
    for study in sorted(set(tables.grades) - set(folders)) if wanted is None else ():
        problems.append(Problem("train.csv", "missing", f"study {study} has no folder in train_images"))
    for stem in sorted((wanted or set()) - used):
        problems.append(Problem(stem, "missing", "annotated, but no sagittal T2 series of this name is there"))
    return chosen


def _add_study(
    stage: Staging,
    root: Path,
    study: str,
    series: str,
    tables: _Tables,
    own: Annotations | None,
    severities: set[str],
) -> None:
    """Add the mid-sagittal picture of one study."""
    problems, place = stage.report.problems, f"train_images/{study}/{series}"
    if own is None and severities and study not in tables.grades:
        problems.append(Problem(place, "missing-row", f"no row of study {study} in train.csv; left out"))
        return
    points = tables.points.get((study, series), [])
    plane = _read_plane(root / "train_images" / study / series, place, points, problems)
    if plane is None:
        return
    stem, (height, width) = f"{study}_{series}", plane.image.shape
    if own is not None:
        key = stem if stem in own.boxes else study
        boxes = [Box(c, xyxy, level) for c, xyxy, level in own.on(key, width, height)]
    else:
        found = _stenosis_boxes(plane, tables.grades.get(study, {}), severities, place, problems)
        if found is None:
            return
        boxes = found
    stage.add(stem, plane.image, boxes, study, f"{place}/{plane.instance}", series=series, sequence="t2",
              spacing_mm=plane.mm_per_px)  # fmt: skip


def _stenosis_boxes(
    plane: _Plane, grades: dict[str, str], severities: set[str], place: str, problems: list[Problem]
) -> list[Box] | None:
    """SS boxes of a study; None where one is graded but cannot be placed, so that the image would lack a label."""
    graded = {level: s for level, s in grades.items() if s in severities}
    if graded and plane.mm_per_px is None:
        problems.append(Problem(place, "spacing", "no pixel spacing, so no box of known size; left out"))
        return None
    missing = [level for level in graded if level not in plane.points]
    if missing:
        detail = f"{', '.join(missing)} graded {graded[missing[0]]}, but without a coordinate; image left out"
        problems.append(Problem(place, "missing-coordinate", detail))
        return None
    boxes = []
    for level, severity in graded.items():
        (x, y), (w, h) = plane.points[level], (mm / 2 / plane.mm_per_px for mm in STENOSIS_MM)
        boxes.append(Box(SS, (x - w, y - h, x + w, y + h), level, {"severity": severity}))
    return boxes


def _read_plane(folder: Path, place: str, points: list[_Point], problems: list[Problem]) -> _Plane | None:
    """The plane of a series nearest to its canal coordinates, or None, which is then a problem."""
    from yolospine_ultra.data.scans import ScanError, hides_all, open_scan, sagittal, to_uint8

    def clean(error: Exception) -> str:
        return str(error).replace(f"{folder}/", "").replace(str(folder), place).rstrip(".")

    try:
        stored = open_scan(folder)
        if stored.plane not in (None, "sagittal"):
            raise ScanError(f"{place}: its planes are {stored.plane}; expected sagittal ones")
        scan = sagittal(stored) if stored.geometry is not None else stored
    except ScanError as error:
        problems.append(Problem(place, "unreadable", f"{clean(error)}; left out"))
        return None
    for file in sorted({f for f in folder.iterdir() if f.suffix.lower() == ".dcm"} - set(scan.files)):
        problems.append(Problem(f"{place}/{file.name}", "unreadable", "damaged, or not of this stack; not used"))
    stems = [f.stem for f in stored.files]
    marked = [p for p in points if str(p.instance) in stems]
    for p in points:
        if str(p.instance) not in stems:
            detail = f"{p.level} is marked on instance {p.instance}, which is not there"
            problems.append(Problem(place, "coordinate", detail))
    along = scan.positions if scan.positions is not None else np.arange(scan.shape[0], dtype=float)
    at = {f.stem: float(v) for f, v in zip(scan.files, along, strict=True)}
    middle = float(np.mean([at[str(p.instance)] for p in marked])) if marked else float(along.min() + along.max()) / 2
    for index in np.argsort(np.abs(along - middle), kind="stable"):
        try:
            picture = square_pixels(scan.read(int(index)), scan.spacing_mm and scan.spacing_mm[1:])
        except (ScanError, ValueError) as error:
            problems.append(Problem(place, "unreadable", f"{clean(error)}; the next plane is taken"))
            continue
        window, file = scan.windows[index] if scan.windows else None, scan.files[index].name
        if hides_all(picture.pixels, window):
            detail = "its window (centre {:g}, width {:g}) shows none of its grey values".format(*window)
            problems.append(Problem(f"{place}/{file}", "window", f"{detail}; their percentiles are taken"))
            window = None
        placed = {p.level: _place(p, stored, stems, scan, int(index), picture.scale) for p in marked}
        return _Plane(to_uint8(picture.pixels, window), picture.mm_per_px, placed, file)
    problems.append(Problem(place, "unreadable", "no plane can be read; left out"))
    return None


def _place(
    point: _Point, stored: Scan, stems: list[str], scan: Scan, index: int, scale: tuple[float, float]
) -> tuple[float, float]:
    """A coordinate of a stored instance in pixels of the picture, also where the planes were turned upright.

    RSNA does not say whether a whole number is the middle or the corner of a pixel; it is taken as the middle.
    """
    x, y = point.x, point.y
    if stored.geometry is not None and scan.geometry is not None and stored.spacing_mm and scan.spacing_mm:
        first, then = stored.geometry, scan.geometry
        origin = first.origins[stems.index(str(point.instance))]
        at = origin + first.down * y * stored.spacing_mm[1] + first.right * x * stored.spacing_mm[2]
        offset = at - then.origins[index]
        x, y = offset @ then.right / scan.spacing_mm[2], offset @ then.down / scan.spacing_mm[1]
    return (float((x + 0.5) * scale[0]), float((y + 0.5) * scale[1]))


def _describe(stage: Staging, studies: int, own: Annotations | None, stenosis: str) -> None:
    """Published numbers beside those found, and what a user must know."""
    report = stage.report
    if studies:
        report.comparisons.append(Comparison("studies in train.csv", PUBLISHED_STUDIES, studies))
    if own is not None:
        counted = Counter(DISORDERS[b.class_id] for i in stage.images for b in i.boxes)
        report.comparisons.append(Comparison("images of the external set", EXTERNAL_IMAGES, len(stage.images)))
        report.comparisons += compare("external labels of", EXTERNAL_LABELS, counted)
        report.notes.append("Labels are those of the annotation file alone.")
        return
    report.notes.append(
        "RSNA has no boxes and no gradings of discs: DDD, IVDn, SP, LDB and TDB are NOT labelled, and their absence is "
        "no negative. The paper's external set needs boxes of your own: pass them as annotations."
    )
    if stenosis != "none":
        width, height = STENOSIS_MM
        report.notes.append(
            f"SS boxes are {width:g} x {height:g} mm (our choice) around the coordinate of each level graded "
            f"{stenosis} or worse; Normal/Mild levels have none, although they may show mild narrowing."
        )
