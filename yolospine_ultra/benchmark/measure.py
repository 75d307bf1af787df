"""What is measured of a cell, from its predictions; and a whole sweep again, when the measures have changed.

Written for this project. `predictions.json` is what is measured in the first place, so that values which new code
leaves alone come out as they were. No model is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from yolospine_ultra.benchmark.metrics import Evaluation, evaluate
from yolospine_ultra.benchmark.records import (
    DONE,
    Sweep,
    predictions_file,
    read_records,
    read_sweep,
    read_truth,
    write_record,
)
from yolospine_ultra.benchmark.summary import write_tables
from yolospine_ultra.evaluate.findings import ImageFindings, read_predictions


def measure_cell(folder: Path, sweep: Sweep, cell: str, images: Sequence[ImageFindings]) -> Evaluation:
    """Measure a cell's `predictions.json`.

    Args:
        folder: of the sweep.
        sweep: its protocol.
        cell: name.
        images: labelled findings of the images it is evaluated on.

    Raises:
        FileNotFoundError: the predictions are missing.
        ValueError: they cannot be used.
    """
    names = sweep.class_names
    return evaluate(images, read_predictions(predictions_file(folder, cell), images, len(names)), names, sweep.conf)


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
    made = []
    for record in read_records(folder):
        if record.status == DONE:
            got = measure_cell(folder, sweep, record.cell, [truth.images[i] for i in truth.of(record.fold)])
            new = {"metrics": got.metrics, "classes": got.classes, "confusion": got.confusion.tolist()}
            made.append(dataclasses.replace(record, **new))
    for record in made:
        write_record(folder, record)
    write_tables(folder)
    return len(made)
