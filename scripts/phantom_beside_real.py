"""Picture of phantom slices beside real ones, to judge by eye what still tells them apart.

Written for this project. Slices are drawn by chance with `--seed`, one of a patient where names begin with the patient,
and shown as they are: none is chosen by its looks. Example:
`python scripts/phantom_beside_real.py datasets/spine-phantom PATH/TO/spider-lumbar --out beside.png`.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from yolospine_ultra.data.atomic import AtomicPath
from yolospine_ultra.data.images import open_image

COLUMNS = 5


def main() -> int:
    """Write the picture; 2 where a folder has too few slices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phantom", type=Path, help="folder of the phantom, made by scripts/make_phantom.py")
    parser.add_argument("real", type=Path, help="folder of a real dataset in YOLO layout")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--suffix", default="_t2.png", help="end of the file names to draw from (default _t2.png)")
    parser.add_argument("--count", type=int, default=10, help="slices of each (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="which slices are drawn")
    parser.add_argument("--credit", default="", help="line for the lower margin, such as the source of the real slices")
    args = parser.parse_args()
    try:
        groups = {
            kind: draw_slices(folder, args.suffix, args.count, args.seed)
            for kind, folder in (("phantom", args.phantom), ("real", args.real))
        }
        picture(groups, args.credit, args.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: {', '.join(f'{len(files)} {kind}' for kind, files in groups.items())}")
    return 0


def draw_slices(folder: Path, suffix: str, count: int, seed: int) -> list[Path]:
    """`count` files of different patients under `folder`/images.

    Raises:
        ValueError: there are fewer patients.
    """
    patients: dict[str, list[Path]] = {}
    for file in sorted((folder / "images").rglob(f"*{suffix}")):
        patients.setdefault(file.name.split("_")[0], []).append(file)
    if count < 1:
        raise ValueError(f"--count {count}: expected at least 1 slice.")
    if count > len(patients):
        raise ValueError(f"{folder}/images has *{suffix} of {len(patients)} patients; expected at least {count}.")
    chance = random.Random(seed)
    return [chance.choice(patients[p]) for p in chance.sample(sorted(patients), count)]


def picture(groups: dict[str, list[Path]], credit: str, out: Path) -> None:
    """Draw rows of slices in squares, black where a slice is not one, each group under its name."""
    rows = {kind: -(-len(files) // COLUMNS) for kind, files in groups.items()}
    figure = plt.figure(figsize=(2 * COLUMNS, 2.15 * sum(rows.values())), facecolor="black")
    parts = figure.subfigures(len(groups), 1, height_ratios=list(rows.values()))
    for part, (kind, files) in zip(parts, groups.items(), strict=True):
        part.set_facecolor("black")
        part.suptitle(kind, color="white", fontsize=10)
        axes = part.subplots(rows[kind], COLUMNS, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        part.subplots_adjust(left=0.01, right=0.99, top=0.93, bottom=0.01)
        for axis in axes.flat:
            axis.axis("off")
        for axis, file in zip(axes.flat, files, strict=False):
            with open_image(file) as image:
                side = max(image.size)
                square = Image.new("L", (side, side))
                square.paste(image.convert("L"), ((side - image.width) // 2, (side - image.height) // 2))
            axis.imshow(square.resize((220, 220), Image.Resampling.LANCZOS), cmap="gray", vmin=0, vmax=255)
    if credit:
        parts[-1].supxlabel(credit, color="white", fontsize=6, y=0)
    drawn, grey = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=100, facecolor="black")
    plt.close(figure)
    Image.open(drawn).convert("L").save(grey, "PNG")
    AtomicPath(out).write_bytes(grey.getvalue())


if __name__ == "__main__":
    raise SystemExit(main())
