"""The report of a conversion: what was written, beside what was published, and everything that was left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolospine_ultra.data.labels import Problem, count_problems

SHOWN = 20  # problems of one kind that the text names; report.json has all


@dataclass(frozen=True)
class Comparison:
    """A published number beside the one found.

    Attributes:
        what: what is counted.
        published: as published.
        found: in the source that was given.
    """

    what: str
    published: int
    found: int

    @property
    def deviates(self) -> bool:
        """Whether the two differ."""
        return self.published != self.found

    def __str__(self) -> str:
        return f"{self.what}: published {self.published}, found {self.found} ({self.found - self.published:+d})"


def compare(what: str, published: dict[str, int], found: dict[str, int]) -> list[Comparison]:
    """Comparisons for every key of `published`, named "what key"."""
    return [Comparison(f"{what} {key}".strip(), n, int(found.get(key, 0))) for key, n in published.items()]


@dataclass
class Report:
    """What a conversion did.

    Attributes:
        dataset: name of the public dataset.
        source: folder that was read.
        out: folder that was written.
        images: number of images by split.
        patients: number of patients by split.
        labels: number of labels by split and class name.
        comparisons: published numbers beside those found in the source.
        reference: where the published numbers come from.
        notes: choices that were made and facts to know, one sentence each.
        problems: everything that was wrong in the source.
        leaks: what the written splits share; empty where they are sound.
        source_leaks: what the splits of the source share.
        unknown_patients: number of images whose patient is not known, in which the leak check sees look-alikes only.
        facts: further numbers of the dataset.
    """

    dataset: str
    source: str
    out: str
    images: dict[str, int] = field(default_factory=dict)
    patients: dict[str, int] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    reference: str = ""
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    source_leaks: list[str] = field(default_factory=list)
    unknown_patients: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def deviations(self) -> list[Comparison]:
        """Comparisons whose numbers differ."""
        return [c for c in self.comparisons if c.deviates]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; of folders their names, since the report goes where the dataset goes."""
        return {
            "dataset": self.dataset,
            "source": Path(self.source).name,
            "out": Path(self.out).name,
            "images": self.images,
            "patients": self.patients,
            "labels": self.labels,
            "reference": self.reference,
            "comparisons": [
                {"what": c.what, "published": c.published, "found": c.found, "deviates": c.deviates}
                for c in self.comparisons
            ],
            "deviations": [str(c) for c in self.deviations],
            "notes": self.notes,
            "facts": self.facts,
            "problem_counts": count_problems(self.problems),
            "problems": [vars(p) for p in self.problems],
            "leaks": self.leaks,
            "source_leaks": self.source_leaks,
            "unknown_patients": self.unknown_patients,
        }

    def write(self, file: Path) -> None:
        """Write `to_dict` as JSON."""
        file.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.dataset}: {self.source} -> {self.out}", "", *self._table(), ""]
        if self.comparisons:
            lines.append(f"Published numbers ({self.reference}):")
            same = len(self.comparisons) - len(self.deviations)
            lines.append(f"  {same} of {len(self.comparisons)} agree.")
            lines += [f"  DEVIATES  {c}" for c in self.deviations]
            lines.append("")
        lines += _section("Notes", self.notes)
        lines += _section("Leaks in the source's own splits", self.source_leaks, SHOWN)
        lines += _section("LEAKS in the splits as written", self.leaks, SHOWN)
        if not self.leaks:
            lines += ["Leak check: no patient and no look-alike image of two patients in two splits.", ""]
        if self.unknown_patients:
            lines += [
                f"The patients of {self.unknown_patients} images are unknown: among them it is look-alikes only.",
                "",
            ]
        if not self.problems:
            return "\n".join([*lines, "No problems found in the source."])
        kinds = ", ".join(f"{n} {kind}" for kind, n in count_problems(self.problems).items())
        lines.append(f"Problems: {len(self.problems)} ({kinds}):")
        for kind in count_problems(self.problems):
            found = [str(p) for p in self.problems if p.kind == kind]
            lines += [f"  {p}" for p in _first(found, SHOWN)]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """Counts by split and class."""
        names = list(dict.fromkeys(name for row in self.labels.values() for name in row))
        head = ["split", "images", "patients", *names]
        rows = [
            [s, str(n), str(self.patients.get(s, 0)), *(str(self.labels.get(s, {}).get(c, 0)) for c in names)]
            for s, n in self.images.items()
        ]
        widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
        return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in [head, *rows]]


def _first(items: Sequence[str], limit: int) -> list[str]:
    """The first items, and how many more there are."""
    more = len(items) - limit
    return [*items[:limit], f"... and {more} more, see report.json"] if more > 0 else list(items)


def _section(title: str, items: Iterable[str], limit: int = 1000) -> list[str]:
    """A titled list, nothing where it is empty."""
    items = list(items)
    title = f"{title} ({len(items)}):" if len(items) > limit else f"{title}:"
    return [title, *(f"  {i}" for i in _first(items, limit)), ""] if items else []
