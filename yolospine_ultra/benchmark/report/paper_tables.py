"""What the paper prints, as tables of their own: its data, m scale, 200 epochs; nothing in them was measured here.

Source: YOLOspine (Masood and Taj 2026), see `yolospine_ultra.benchmark.paper`.
"""

from __future__ import annotations

from yolospine_ultra.benchmark.paper import paper_figures
from yolospine_ultra.benchmark.report.cost_tables import PAPER_COUNTS
from yolospine_ultra.benchmark.report.formats import Column, Table
from yolospine_ultra.benchmark.report.tables import AGREEMENT, MAP
from yolospine_ultra.evaluate.dataset_files import ALL

ORIGIN = "Printed in the paper: its own data, m scale, 200 epochs at 384 px. Not measured here."


def paper_tables() -> list[Table]:
    """The paper's class-wise, external and complexity tables."""
    found = paper_figures()
    names = list(dict.fromkeys(c for t, _, _, c in found if t == "internal"))
    classwise = [((MAP, n), Column("mAP50-95" if n == ALL else n, 2, 100, printed=True)) for n in names]
    external = [((k, ALL), Column(label, 4, printed=True)) for k, label in AGREEMENT]
    cost = [
        (("parameters", ALL), Column("parameters, M", 2, 1e-6, printed=True)),
        (("flops", ALL), Column("GFLOPs", 2, 1e-9, printed=True)),
        (("seconds_epoch", ALL), Column("s an epoch", 2, printed=True)),
        (("seconds_train", ALL), Column("training, h", 2, 1 / 3600, printed=True)),
    ]
    made = []
    for table, title, columns, notes in (
        ("internal", "Paper: class-wise mAP50-95, internal data", classwise, (ORIGIN,)),
        ("external", "Paper: cross-validation metrics, external data", external, (ORIGIN,)),
        ("complexity", "Paper: training and computational complexity", cost, (ORIGIN, PAPER_COUNTS)),
    ):
        models = list(dict.fromkeys(m for t, m, _, _ in found if t == table))
        rows = tuple((m, *(found.get((table, m, *key)) for key, _ in columns)) for m in models)
        made.append(Table(f"paper_{table}", title, (Column("model"), *(c for _, c in columns)), rows, notes))
    return made
