"""The figures that the paper prints, as data: shown beside measured ones where asked, never mixed with them.

Source: YOLOspine (Masood and Taj 2026), tables 'Internal Dataset', 'External Dataset', 'Training & Computational
Complexity' and 'Ablation Study', copied into `paper.csv` in the paper's units. They were measured on the paper's own
data at m scale, 200 epochs, 384 px. Known to be wrong: the parameter counts of every row but YOLOspine and the
segmentation networks (a summary tool counted shared activations twice: YOLOv8m has 25.86 M, not 48.44 M), the GFLOPs of
UNet++ (258.7, a digit was lost), and YOLOspine's GFLOPs, which leave out attention and all of stage 2. Names are those
of the first table in which a model stands, so that one name finds all its figures.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from yolospine_ultra.evaluate.dataset_files import ALL

# factor from the paper's unit to the benchmark's: shares of 1, counts, seconds, MiB
UNITS = {"percent": 0.01, "fraction": 1.0, "million": 1e6, "giga": 1e9, "second": 1.0, "hour": 3600.0, "gigabyte": 1024}


@cache
def paper_figures() -> dict[tuple[str, str, str, str], float]:
    """Every figure by (table, model, metric, class), in the benchmark's units.

    Tables are "internal", "external", "complexity" and "ablation"; metrics are named as in
    `benchmark.summary`.
    """
    with (files("yolospine_ultra.benchmark") / "paper.csv").open(encoding="utf-8", newline="") as f:
        return {
            (row["table"], row["model"], row["metric"], row["class"]): float(row["value"]) * UNITS[row["unit"]]
            for row in csv.DictReader(f)
        }


def paper_figure(table: str, model: str, metric: str, name: str = ALL) -> float | None:
    """One figure in the benchmark's units, None where the paper's table has none."""
    return paper_figures().get((table, model, metric, name))
