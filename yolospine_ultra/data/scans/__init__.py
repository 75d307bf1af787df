"""Scans as they come: DICOM, NIfTI, MetaImage and images of 16 bits, with pixel spacing and place in the patient.

`read_scan` gives float pixels as they are stored, `sagittal` turns them upright, `mid_sagittal` picks the plane,
`to_uint8` windows it; `read_view` does all of it: it is what `predict`, `train` and `val` see. Optional packages are
imported when the first file of their kind is read.
"""

from yolospine_ultra.data.scans.dicom_file import is_dicom
from yolospine_ultra.data.scans.scan import Geometry, Scan, ScanError, mid_sagittal, sagittal, upright
from yolospine_ultra.data.scans.view import (
    Place,
    View,
    open_scan,
    read_scan,
    read_view,
    scan_kind,
    suffix_kind,
    view_of,
)
from yolospine_ultra.data.scans.window import hides_all, to_uint8

__all__ = [
    "Geometry",
    "Place",
    "Scan",
    "ScanError",
    "View",
    "hides_all",
    "is_dicom",
    "mid_sagittal",
    "open_scan",
    "read_scan",
    "read_view",
    "sagittal",
    "scan_kind",
    "suffix_kind",
    "to_uint8",
    "upright",
    "view_of",
]
