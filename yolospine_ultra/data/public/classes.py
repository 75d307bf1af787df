"""Class names, their other spellings, and the levels of the spine, as every public dataset is converted to.

The order of the six disorders is that of the YOLOspine paper's README. The thirteen classes of its Pfirrmann
configuration are these six followed by the seven anatomical ones.

What is known of those thirteen: the published configuration lists seven anatomical names (two backgrounds, an outer
boundary, vertebral bodies, discs, sacrum, canal) and the six disorders, for segmentation masks, and keeps the grade of
the three lowest discs in a file of its own. What is our choice: the disorders come first, so that a class index means
the same in every dataset here; the three names that are no object (`Background`, `Background_P`, `Outer_Bdry`) keep
their place, so that published labels can be converted, and never have boxes.
"""

from __future__ import annotations

import re

DISORDERS = ("DDD", "IVDn", "SS", "SP", "LDB", "TDB")
DDD, IVDN, SS, SP, LDB, TDB = range(6)
ANATOMY = ("Background", "Background_P", "Outer_Bdry", "VB", "IVD", "Sacrum", "SC")
PFIRRMANN = DISORDERS + ANATOMY
VB, IVD, SACRUM, SC = (PFIRRMANN.index(name) for name in ("VB", "IVD", "Sacrum", "SC"))

# Orders in which the class indices of published labels have been seen. Index of ours for index of theirs.
ORDERS: dict[str, dict[int, int]] = {
    "readme": {i: i for i in range(6)},  # the paper's README, and the data.yaml beside the published labels
    "config": {0: DDD, 1: LDB, 2: IVDN, 3: SS, 4: TDB, 5: SP},  # configs/data_disorders.yaml of the published code
    "pfirrmann": {**{i: 6 + i for i in range(7)}, 7: DDD, 8: LDB, 9: IVDN, 10: SS, 11: TDB, 12: SP},  # 13 classes
}

_SPELLINGS = {
    DDD: ("ddd", "degenerativediscdisease", "degenerativediscdiseaseddd"),
    IVDN: ("ivdn", "normalivd", "normalintervertebraldisc", "normaldisc"),
    SS: ("ss", "spinalstenosis", "spinalstenosisss", "spinalcanalstenosis"),
    SP: ("sp", "spondylolisthesis", "spondylolisthesissp"),
    LDB: ("ldb", "lumbardiscbulge", "lumbardiscbulgeldb"),
    TDB: ("tdb", "thoracicdiscbulge", "thoracicdiscbulgetdb"),
    VB: ("vb", "vbs", "vertebralbody", "vertebralbodies"),
    IVD: ("ivd", "ivds", "intervertebraldisc", "intervertebraldiscs"),
    SACRUM: ("sacrum",),
    SC: ("sc", "spinalcavity", "spinalcanal"),
    **{PFIRRMANN.index(name): (re.sub(r"\W|_", "", name).lower(),) for name in ANATOMY[:3]},
}
_BY_SPELLING = {spelling: index for index, spellings in _SPELLINGS.items() for spelling in spellings}

_VERTEBRAE = ("S1", *(f"L{i}" for i in range(5, 0, -1)), *(f"T{i}" for i in range(12, 0, -1)), "C7")
LOWEST_THORACIC = 6  # T12/L1 is the sixth disc from below


def class_index(name: str) -> int | None:
    """Index of a class by any of its known spellings, None where it is none of them."""
    return _BY_SPELLING.get(re.sub(r"[\W_ₙ]", "", name.replace("ₙ", "n")).lower())


def disc_level(number: int) -> str:
    """Level of a disc counted from below: 1 is L5/S1, 6 is T12/L1, 18 is C7/T1.

    Raises:
        ValueError: no disc has that number.
    """
    if not 1 <= number < len(_VERTEBRAE):
        raise ValueError(f"disc {number}: expected 1 (L5/S1) to {len(_VERTEBRAE) - 1} ({_VERTEBRAE[-1]}/T1)")
    return f"{_VERTEBRAE[number]}/{_VERTEBRAE[number - 1]}"


def vertebra_name(number: int) -> str:
    """Name of a vertebra counted from below: 1 is L5, 6 is T12; empty beyond C7."""
    return _VERTEBRAE[number] if 1 <= number < len(_VERTEBRAE) else ""
