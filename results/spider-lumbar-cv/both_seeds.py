"""`summary.csv`, `comparisons.csv` and `ranks.csv` beside it: the sweeps of both seeds, seen as one.

Unpack the predictions first: `tar xJf predictions.tar.xz` in seed0 and in seed1.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from yolospine_ultra.benchmark.summary import write_tables

HERE = Path(__file__).parent

with TemporaryDirectory() as name:
    whole = Path(name)
    for seed in ("seed0", "seed1"):
        shutil.copytree(HERE / seed / "cells", whole / "cells", dirs_exist_ok=True)
    # the later sweep has all models of the earlier one, and the same folds
    for file in ("sweep.json", "ground_truth.json"):
        shutil.copy(HERE / "seed1" / file, whole)
    write_tables(whole)
    for file in ("summary.csv", "comparisons.csv", "ranks.csv"):
        shutil.copy(whole / file, HERE)
