"""SPIDER: lumbar MR volumes with masks and gradings (van der Graaf et al., Scientific Data 11:264, 2024).

Format: `images/PATIENT_SEQUENCE.mha` and `masks/` of the same names (sequences t1, t2, t2_SPACE; mask labels 1-25
vertebrae from below, 100 canal, 201-225 discs from below, so that 201 is L5/S1), `radiological_gradings.csv` (a row a
disc of a patient: Patient, IVD label, Modic, UP endplate, LOW endplate, Spondylolisthesis, Disc herniation, Disc
narrowing, Disc bulging, Pfirrman grade) and `overview.csv` (a row a series: new_file_name, subset, ...). 447 series of
218 patients, 179 for training and 39 for validation; the challenge's test set is not public. Zenodo record 10159290,
CC BY 4.0: name the source.

From each volume comes one picture, the sagittal plane nearest to the middle of the canal's mask, with square pixels. A
disc's box is the bounding box of its mask there plus 6 px. Its classes follow from its gradings: DDD = narrowing or
Pfirrmann 4 and above; LDB = bulging or herniation at L1/L2 and below, TDB = the same at T12/L1 and above; SP =
spondylolisthesis; IVDn = none of these. One disc may have several: the same box is then given once a class.

Stenosis is NOT graded in SPIDER: SS never occurs, and its absence is no negative. Gradings are of the whole disc, not
of the one plane shown.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ultralytics.utils import TQDM

from yolospine_ultra.data.labels import Problem
from yolospine_ultra.data.public.classes import (
    DDD,
    DISORDERS,
    IVD,
    IVDN,
    LDB,
    LOWEST_THORACIC,
    PFIRRMANN,
    SC,
    SP,
    TDB,
    VB,
    disc_level,
    vertebra_name,
)
from yolospine_ultra.data.public.planes import mask_box, square_pixels
from yolospine_ultra.data.public.report import Comparison, Report, compare
from yolospine_ultra.data.public.staging import SHARES, Box, Staging, require_images, staging
from yolospine_ultra.data.public.tables import read_table, whole_number
from yolospine_ultra.data.splits import check_shares

SEQUENCES = ("t1", "t2", "t2_SPACE")
PUBLISHED = {"series": 447, "patients": 218}
PUBLISHED_SEQUENCES = {"t1": 196, "t2": 210, "t2_SPACE": 41}
PUBLISHED_SUBSETS = {"training": 179, "validation": 39}
MARGIN_PX = 6.0

_NAME = re.compile(r"^(\d+)_(t1|t2|t2_SPACE)$", re.IGNORECASE)
_CANAL, _FIRST_DISC, _LAST_VERTEBRA = 100, 201, 25
_SMALLEST_MM2 = 20.0  # a disc of 350 mm2 that shows less than this is only touched by the plane
_COLUMNS = {
    "pfirrmann": "Pfirrman grade",
    "narrowing": "Disc narrowing",
    "bulging": "Disc bulging",
    "herniation": "Disc herniation",
    "spondylolisthesis": "Spondylolisthesis",
    "modic": "Modic",
    "up_endplate": "UP endplate",
    "low_endplate": "LOW endplate",
}
_RANGES = {"pfirrmann": (1, 5), "modic": (0, 3)}
_SUBSETS = {"training": "train", "validation": "val"}


@dataclass(frozen=True)
class Grades:
    """SPIDER's gradings of one disc; Pfirrmann 1 to 5, Modic 0 to 3, the rest 0 or 1."""

    pfirrmann: int
    narrowing: int
    bulging: int
    herniation: int
    spondylolisthesis: int
    modic: int = 0
    up_endplate: int = 0
    low_endplate: int = 0


def classes_of(grades: Grades, disc: int) -> list[int]:
    """Class indices of a disc, at least one, in ascending order.

    Args:
        grades: its gradings.
        disc: its number from below; 1 is L5/S1.
    """
    found = []
    if grades.narrowing or grades.pfirrmann >= 4:
        found.append(DDD)
    if grades.spondylolisthesis:
        found.append(SP)
    if grades.bulging or grades.herniation:
        found.append(TDB if disc >= LOWEST_THORACIC else LDB)
    return sorted(found) or [IVDN]


def prepare_spider(
    source: str | Path,
    out: str | Path,
    sequences: tuple[str, ...] = SEQUENCES,
    classes: str = "disorders",
    split: str = "patient",
    shares: dict[str, float] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Convert the SPIDER release.

    Args:
        source: folder with `images`, `masks`, `radiological_gradings.csv` and, for split "published", `overview.csv`.
        out: folder to write; must not exist, or be empty.
        sequences: which of "t1", "t2", "t2_SPACE".
        classes: "disorders" for the six classes of the paper; "pfirrmann" for thirteen, with boxes of vertebral bodies,
            discs and canal from the masks (SPIDER has no sacrum).
        split: "patient" draws splits by patient; "published" takes `subset` of `overview.csv`.
        shares: of the splits "train", "val", "test" where they are drawn; by default 0.7, 0.2, 0.1.
        seed: of the splits.
        progress: show a progress bar.

    Returns:
        The report, also in `out/report.json`.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: as in `prepare_mendeley`.
        ImportError: a package of the extra `dicom` is missing.
    """
    unknown = [s for s in sequences if s not in SEQUENCES]
    if unknown or not sequences:
        raise ValueError(f"sequences={', '.join(sequences)}: choose from {', '.join(SEQUENCES)}")
    if classes not in ("disorders", "pfirrmann") or split not in ("patient", "published"):
        raise ValueError(f"classes={classes}, split={split}: choose disorders or pfirrmann, patient or published")
    check_shares(shares or SHARES, seed)
    source = Path(source)
    report = Report("SPIDER", str(source), str(out), reference="van der Graaf et al. 2024 and its overview.csv")
    names = DISORDERS if classes == "disorders" else PFIRRMANN
    with staging(out, names, report) as stage:
        root = _root(source)
        grades = read_gradings(root / "radiological_gradings.csv", report.problems)
        subsets = _read_subsets(root, report, needed=split == "published")
        series = _series(root, report)
        for file, patient, sequence in TQDM(series, desc="spider", unit="vol", disable=not progress):
            if sequence in sequences:
                _add_series(stage, file, patient, sequence, grades.get(patient, {}), subsets.get(file.stem, ""))
        require_images(stage)
        _describe(report, series, subsets, classes)
        given = [i.source_split or "train" for i in stage.images]
        if subsets:
            unlisted = [i.source for i in stage.images if not i.source_split]
            why = "not in overview.csv; taken as one for training"
            report.problems += [Problem(name, "missing-row", why) for name in unlisted]
        if any(i.source_split for i in stage.images):
            report.source_leaks += stage.leaks(given)
        chosen = given if split == "published" else stage.split_by_patient(shares or SHARES, seed)
        split_names = ("train", "val") if split == "published" else tuple(shares or SHARES)
        head = (
            "SPIDER (van der Graaf et al. 2024, doi 10.1038/s41597-024-03090-w, CC BY 4.0), converted; report.json.\n"
            "SS is not graded in SPIDER: class 2 never occurs, and its absence is no negative."
        )
        declared = {"normal": "IVDn", "same_finding": [["LDB", "TDB"]]} if classes == "disorders" else None
        stage.finish(chosen, split_names, head, declared)
    return report


def _root(source: Path) -> Path:
    """The folder with `images` and `masks`, `source` or one below it."""
    if source.is_dir():
        for root in (source, *sorted(f for f in source.iterdir() if f.is_dir())):
            if (root / "images").is_dir() and (root / "masks").is_dir():
                return root
    raise FileNotFoundError(f"{source} has no folders images and masks; expected the unpacked SPIDER release.")


def read_gradings(file: Path, problems: list[Problem]) -> dict[str, dict[int, Grades]]:
    """Gradings by patient and disc number from below.

    Args:
        file: `radiological_gradings.csv`.
        problems: rows that make no sense (kind `grade`) or repeat a disc (kind `duplicate`) are added and left out.

    Raises:
        FileNotFoundError, ValueError: the file is not there, or lacks a column.
    """
    found: dict[str, dict[int, Grades]] = {}
    for line, row in read_table(file, ("Patient", "IVD label", *_COLUMNS.values()), problems):
        patient, disc = whole_number(row["Patient"]), whole_number(row["IVD label"])
        values = {key: whole_number(row[column]) for key, column in _COLUMNS.items()}
        bad = [f"{_COLUMNS[k]}={row[_COLUMNS[k]]}" for k, v in values.items() if not _in_range(k, v)]
        if patient is None or disc is None or not 1 <= disc <= 18:
            bad.insert(0, f"Patient={row['Patient']}, IVD label={row['IVD label']}")
        if bad:
            problems.append(Problem(file.name, "grade", f"{', '.join(bad)} makes no sense; row left out", line))
        elif disc in found.setdefault(str(patient), {}):
            detail = f"disc {disc} of patient {patient} again; the first row counts"
            problems.append(Problem(file.name, "duplicate", detail, line))
        else:
            found[str(patient)][disc] = Grades(**values)
    return found


def _in_range(key: str, value: int | None) -> bool:
    """Whether a grade is one of those that its column can have."""
    low, high = _RANGES.get(key, (0, 1))
    return value is not None and low <= value <= high


def _read_subsets(root: Path, report: Report, needed: bool) -> dict[str, str]:
    """Split of each series by its name, from `overview.csv`; empty where the file is not there and not needed."""
    file = root / "overview.csv"
    if not needed and not file.is_file():
        report.notes.append("overview.csv is not there: the published training and validation subsets are unknown.")
        return {}
    found = {}
    for line, row in read_table(file, ("new_file_name", "subset"), report.problems):
        split = _SUBSETS.get(row["subset"].lower())
        if split is None:
            detail = f"subset {row['subset']!r}, expected {' or '.join(_SUBSETS)}; row left out"
            report.problems.append(Problem(file.name, "row", detail, line))
        else:
            found[row["new_file_name"].removesuffix(".mha")] = split
    return found


def _series(root: Path, report: Report) -> list[tuple[Path, str, str]]:
    """File, patient and sequence of each volume, by patient; anything else in the folder is named."""
    found = []
    for file in sorted((root / "images").iterdir()):
        match = _NAME.match(file.stem)
        if not match or file.suffix.lower() != ".mha":
            detail = "not PATIENT_SEQUENCE.mha; left alone"
            report.problems.append(Problem(f"images/{file.name}", "extra", detail))
            continue
        sequence = next(s for s in SEQUENCES if s.lower() == match[2].lower())
        found.append((file, str(int(match[1])), sequence))
    return sorted(found, key=lambda f: (int(f[1]), f[2]))


def _add_series(stage: Staging, file: Path, patient: str, sequence: str, grades: dict[int, Grades], split: str) -> None:
    """Add the mid-sagittal picture of one volume."""
    from yolospine_ultra.data.scans import ScanError, mid_sagittal, read_scan, sagittal, to_uint8

    name, problems = f"images/{file.name}", stage.report.problems
    mask_file = file.parent.parent / "masks" / file.name
    if not mask_file.is_file():
        problems.append(Problem(name, "missing", f"no masks/{file.name}; left out"))
        return
    if not grades:
        problems.append(Problem(name, "missing-row", f"no gradings of patient {patient}; left out"))
        return
    try:
        scan, mask = sagittal(read_scan(file)), sagittal(read_scan(mask_file))
        if scan.shape != mask.shape:
            raise ValueError(f"{scan.shape} voxels, its mask {mask.shape}")
        if np.abs(scan.geometry.origins - mask.geometry.origins).max() > min(scan.spacing_mm):
            raise ValueError("the volume and its mask lie in different places")
        labels = np.rint(mask.pixels).astype(np.int32)
        canal = (labels == _CANAL).sum((1, 2))
        if canal.any():
            index = round(float(np.average(np.arange(len(canal)), weights=canal)))
        else:
            problems.append(Problem(name, "no-canal", "the mask has no canal (label 100); the middle plane is taken"))
            index = mid_sagittal(scan)
        picture = square_pixels(scan.pixels[index], scan.spacing_mm[1:])
    except (ScanError, ValueError) as error:
        reason = str(error).replace(f"{file.parent.parent}/", "")
        problems.append(Problem(name, "unreadable", f"{reason.rstrip('.')}; left out"))
        return
    boxes = _boxes(labels[index], picture.scale, scan.spacing_mm[1] * scan.spacing_mm[2], grades, stage, name)
    if not boxes:
        problems.append(Problem(name, "no-disc", f"no graded disc in plane {index}; left out"))
        return
    image = to_uint8(picture.pixels)
    stage.add(file.stem, image, boxes, patient, name, series=file.stem, sequence=sequence,
              spacing_mm=picture.mm_per_px, source_split=split)  # fmt: skip


def _boxes(
    plane: np.ndarray,
    scale: tuple[float, float],
    pixel_mm2: float,
    grades: dict[int, Grades],
    stage: Staging,
    name: str,
) -> list[Box]:
    """Boxes of one plane of a mask (H, W), with their gradings."""
    found: list[Box] = []
    for label in (int(v) for v in np.unique(plane)):
        disc = label - _FIRST_DISC + 1
        place = plane == label
        if label == 0 or place.sum() * pixel_mm2 < _SMALLEST_MM2:
            continue
        box = mask_box(place, MARGIN_PX, scale)
        if 1 <= disc <= 18:
            level = disc_level(disc)
            if disc in grades:
                text = {k: str(v) for k, v in vars(grades[disc]).items()}
                found += [Box(c, box, level, {"ivd_label": str(disc), **text}) for c in classes_of(grades[disc], disc)]
            else:
                detail = f"disc {disc} ({level}) is in the mask, but has no gradings; its box is left out"
                stage.report.problems.append(Problem(name, "missing-row", detail))
            if len(stage.names) > len(DISORDERS):
                found.append(Box(IVD, box, level, {"ivd_label": str(disc)}))
        elif len(stage.names) > len(DISORDERS) and 1 <= label <= _LAST_VERTEBRA:
            found.append(Box(VB, box, vertebra_name(label)))
        elif len(stage.names) > len(DISORDERS) and label == _CANAL:
            found.append(Box(SC, box))
    return found if any(b.class_id < len(DISORDERS) for b in found) else []


def _describe(report: Report, series: list[tuple[Path, str, str]], subsets: dict[str, str], classes: str) -> None:
    """Published numbers beside those found, and what a user must know."""
    report.comparisons.append(Comparison("series", PUBLISHED["series"], len(series)))
    report.comparisons.append(Comparison("patients", PUBLISHED["patients"], len({p for _, p, _ in series})))
    report.comparisons += compare("series of", PUBLISHED_SEQUENCES, Counter(s for _, _, s in series))
    if subsets:
        members = {s: {name.split("_")[0] for name, split in subsets.items() if split == s} for s in ("train", "val")}
        found = {subset: len(members[split]) for subset, split in _SUBSETS.items()}
        report.comparisons += compare("patients in overview.csv for", PUBLISHED_SUBSETS, found)
    report.notes.append("SS is not graded in SPIDER: class 2 never occurs, and its absence is no negative.")
    report.notes.append("Gradings are of the whole disc; a finding need not show in the plane that was taken.")
    if classes == "pfirrmann":
        report.notes.append("SPIDER has no mask of the sacrum, and the three background classes have no boxes.")
