"""Convert and check a public download: a YOLO folder split by patient, and a report beside the published numbers.

    python scripts/prepare_dataset.py mendeley DOWNLOAD --out datasets/mendeley-lumbar
    python scripts/prepare_dataset.py rsna DOWNLOAD --out datasets/rsna-2024 --images 300 --split external
    python scripts/prepare_dataset.py spider DOWNLOAD --out datasets/spider --json

Nothing is downloaded, and nothing of the download is changed. The report is also written to OUT/report.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from yolospine_ultra.data.public import prepare_mendeley, prepare_rsna, prepare_spider
from yolospine_ultra.data.public.classes import ORDERS
from yolospine_ultra.data.public.spider import SEQUENCES
from yolospine_ultra.data.public.staging import SPLITS

_PREPARE = {"mendeley": prepare_mendeley, "rsna": prepare_rsna, "spider": prepare_spider}


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=__doc__.split("\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="dataset", required=True)
    mendeley = kinds.add_parser("mendeley", help="the paper's set, Mendeley Data 9j9hmy8kbn")
    rsna = kinds.add_parser("rsna", help="RSNA 2024 lumbar spine: DICOM series and coordinates")
    spider = kinds.add_parser("spider", help="SPIDER: volumes, masks and gradings")
    for kind, splits in ((mendeley, ("patient", "published")), (rsna, ("patient", "external")),
                         (spider, ("patient", "published"))):  # fmt: skip
        kind.add_argument("source", type=Path, help="the unpacked download")
        kind.add_argument("--out", type=Path, required=True, help="folder to write, absent or empty")
        kind.add_argument("--split", choices=splits, default="patient", help="where splits come from (default patient)")
        kind.add_argument("--shares", type=float, nargs=3, metavar=("TRAIN", "VAL", "TEST"),
                          help="shares of drawn splits, together 1 (default 0.7 0.2 0.1)")  # fmt: skip
        kind.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
        kind.add_argument("--json", action="store_true", help="print the report as JSON")
    mendeley.add_argument("--class-order", choices=("auto", *ORDERS), default="auto",
                          help="order of the download's class indices (default auto: by their counts)")  # fmt: skip
    rsna.add_argument(
        "--annotations", type=Path, help="your own boxes (.csv or COCO .json): only these images and labels"
    )
    rsna.add_argument("--images", type=int, help="draw so many studies (default all)")
    rsna.add_argument("--stenosis", choices=("moderate", "severe", "none"), default="moderate",
                      help="severity from which a level gets an SS box (default moderate)")  # fmt: skip
    spider.add_argument("--sequences", nargs="+", choices=SEQUENCES, default=list(SEQUENCES), help="default all")
    spider.add_argument("--classes", choices=("disorders", "pfirrmann"), default="disorders",
                        help="six disorders, or thirteen classes with the anatomy (default disorders)")  # fmt: skip
    return parser


def main() -> int:
    """Parse the command line, convert, print the report; 2 where nothing can be converted."""
    options = vars(_parser().parse_args())
    prepare, as_json = _PREPARE[options.pop("dataset")], options.pop("json")
    if options["shares"] is not None:
        options["shares"] = {s: v for s, v in zip(SPLITS, options["shares"], strict=True) if v}
    if "sequences" in options:
        options["sequences"] = tuple(options["sequences"])
    try:
        report = prepare(**options, progress=not as_json and sys.stderr.isatty())
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if as_json else report.text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
