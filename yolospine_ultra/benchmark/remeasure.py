"""A sweep measured again from its predictions, when the measures have changed: no model is run.

Written for this project. Values that the new code leaves alone come out as they were, since `predictions.json` is what
was measured in the first place.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from yolospine_ultra.benchmark.metrics import evaluate
from yolospine_ultra.benchmark.records import DONE, read_records, read_sweep, read_truth, write_record
from yolospine_ultra.benchmark.summary import write_tables
from yolospine_ultra.evaluate.findings import read_predictions


def measure_again(folder: str | Path) -> int:
    """Write metrics, classes and confusion of every finished cell anew, and the tables made of them.

    Args:
        folder: of a sweep, with the `predictions.json` of its cells.

    Returns:
        How many cells were measured.

    Raises:
        FileNotFoundError: a sweep's file or a cell's predictions are missing; nothing has been written then.
        ValueError: a file cannot be used; nothing has been written then.
    """
    folder = Path(folder)
    sweep, truth = read_sweep(folder), read_truth(folder)
    names = [sweep.names[i] for i in sorted(sweep.names)]
    made = []
    for record in read_records(folder):
        if record.status != DONE:
            continue
        images = [truth.images[i] for i in truth.of(record.fold)]
        file = folder / "cells" / record.cell / "predictions.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is missing, and a cell is measured from its predictions; committed sweeps have them in "
                "predictions.tar.xz, to be unpacked there."
            )
        measured = evaluate(images, read_predictions(file, images, len(names)), names, sweep.conf)
        made.append(
            dataclasses.replace(
                record,
                metrics=measured.metrics,
                classes=measured.classes,
                confusion=measured.confusion.tolist(),
            )
        )
    for record in made:
        write_record(folder, record)
    write_tables(folder)
    return len(made)
