"""Scan files for tests: DICOM of every kind, NIfTI, MetaImage, 16-bit images; and volumes whose anatomy is known."""

from itertools import permutations, product

import numpy as np

SAGITTAL = (0, 1, 0, 0, 0, -1)  # along a row to the back, down a column to the feet
AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
NAME, IDENTITY = "Doe^Jane", "PID-77-XY"


def write_dicom(
    path, pixels, position=(0, 0, 0), orientation=SAGITTAL, spacing=(0.5, 0.5), instance=1, series="1.2.3", **tags
):
    """A single-frame MR image of 16 bits with a patient's name in it; a tag of None is left out. Returns the path."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    pixels = np.asarray(pixels)
    bits = 8 * pixels.dtype.itemsize
    values = {
        "PatientName": NAME, "PatientID": IDENTITY, "PatientBirthDate": "19700101",
        "SOPClassUID": MRImageStorage, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": series, "Modality": "MR", "InstanceNumber": instance,
        "Rows": pixels.shape[-2], "Columns": pixels.shape[-1], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"), "PixelSpacing": list(spacing),
        "ImagePositionPatient": list(position), "ImageOrientationPatient": list(orientation),
        "PixelData": pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
    }  # fmt: skip
    with pydicom.config.disable_value_validation():
        for keyword, value in (values | tags).items():
            if value is not None:
                setattr(ds, keyword, value)
        ds.save_as(path, enforce_file_format=True)
    return path


def edit_dicom(path, **tags):
    """Set tags of a file; None removes one. Returns the path."""
    import pydicom

    with pydicom.config.disable_value_validation():
        ds = pydicom.dcmread(path)
        for keyword, value in tags.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        ds.save_as(path)
    return path


def write_series(folder, volume, order=None, step=4.0, **tags):
    """A sagittal series (S, H, W), right to left from x = 0, in files whose names do not follow the positions."""
    folder.mkdir(exist_ok=True, parents=True)
    names = list(range(len(volume))) if order is None else order
    for k, plane in enumerate(volume):
        write_dicom(
            folder / f"im{names[k]:03d}.dcm", plane, position=(step * k, -20, 30), instance=names[k] + 1, **tags
        )
    return folder


def write_multiframe(path, volume, positions=None, orientation=SAGITTAL, spacing=(0.5, 0.5), slopes=None, **tags):
    """An enhanced MR image, its geometry and rescale in functional groups; without positions a plain one."""
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedMRImageStorage

    def item(**values):
        ds = Dataset()
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        return [ds]

    groups = {}
    if positions is not None:
        frames = []
        for k, p in enumerate(positions):
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=list(p))
            frame.PixelValueTransformationSequence = item(
                RescaleSlope=1 if slopes is None else slopes[k], RescaleIntercept=0
            )
            frame.FrameVOILUTSequence = item(WindowCenter=500 + k, WindowWidth=800)
            frames.append(frame)
        shared = Dataset()
        shared.PixelMeasuresSequence = item(PixelSpacing=list(spacing), SliceThickness=3.0)
        shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(orientation))
        groups = {"PerFrameFunctionalGroupsSequence": frames, "SharedFunctionalGroupsSequence": [shared]}
    return write_dicom(
        path, volume, NumberOfFrames=len(volume), SOPClassUID=EnhancedMRImageStorage, ImagePositionPatient=None,
        ImageOrientationPatient=None, PixelSpacing=None if groups else list(spacing), **groups, **tags,
    )  # fmt: skip


def compress(path, pixels, syntax):
    """`pixels` as a DICOM file in a compressed transfer syntax, by its name in pydicom.uid. Returns the path."""
    import io

    import pydicom
    from PIL import Image
    from pydicom import uid
    from pydicom.encaps import encapsulate

    write_dicom(path, pixels)
    ds = pydicom.dcmread(path)
    if syntax == "JPEGBaseline8Bit":
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
        ds.PixelData = encapsulate([stream.getvalue()])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    elif syntax == "JPEGLosslessSV1":
        ds.PixelData = encapsulate([jpeg_lossless(pixels)])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    elif syntax in {"DeflatedExplicitVRLittleEndian", "ImplicitVRLittleEndian", "ExplicitVRBigEndian"}:
        big = syntax == "ExplicitVRBigEndian"
        ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
        ds.file_meta.TransferSyntaxUID = getattr(uid, syntax)
        ds.decode()  # elements are written from their values, not from their bytes
        pydicom.dcmwrite(path, ds, implicit_vr=syntax.startswith("Implicit"), little_endian=not big, force_encoding=big)
        return path
    else:
        ds.compress(getattr(uid, syntax))
    ds.save_as(path)
    return path


def jpeg_lossless(pixels):
    """A JPEG stream of 16 bits, lossless with the left neighbour as prediction (ISO 10918-1 H), the most usual one."""
    import struct

    values = pixels.astype(int)
    predicted = np.zeros_like(values)
    predicted[0, 0], predicted[0, 1:], predicted[1:, 0] = 2**15, values[0, :-1], values[:-1, 0]
    predicted[1:, 1:] = values[1:, :-1]
    bits = ""
    for d in ((values - predicted + 2**15) % 2**16 - 2**15).ravel().tolist():
        size = abs(d).bit_length()  # its code, of five bits for each of the 17 sizes, then the difference itself
        bits += f"{size:05b}" + (f"{d if d > 0 else d + 2**size - 1:0{size}b}" if 0 < size < 16 else "")
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(marker, content):
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    frame = segment(0xC3, struct.pack(">BHHB", 16, *values.shape, 1) + bytes([1, 0x11, 0]))
    table = segment(0xC4, bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)]))
    return b"\xff\xd8" + frame + table + segment(0xDA, bytes([1, 1, 0, 1, 0, 0])) + data + b"\xff\xd9"


def write_nifti(path, volume, affine):
    """A volume indexed (i, j, k) with its RAS affine (4, 4). Returns the path."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(volume, affine), path)
    return path


def write_mha(path, volume, axes=None, origin=(0, 0, 0), compressed=False, data=None, **fields):
    """A volume indexed (k, j, i); `axes` has its steps along i, j, k as rows (LPS, mm). Returns the path."""
    import zlib

    axes = np.eye(3) if axes is None else np.asarray(axes, float)
    spacing = np.linalg.norm(axes, axis=1)
    kinds = {"i2": "MET_SHORT", "u2": "MET_USHORT", "f4": "MET_FLOAT", "u1": "MET_UCHAR", "f8": "MET_DOUBLE"}
    raw = volume.astype(volume.dtype.newbyteorder("<")).tobytes()
    raw = zlib.compress(raw) if compressed else raw
    header = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": compressed, "TransformMatrix": _row((axes / spacing[:, None]).ravel()),
        "Offset": _row(origin), "ElementSpacing": _row(spacing), "DimSize": _row(volume.shape[::-1]),
        "ElementType": kinds[volume.dtype.str[1:]],
    } | fields | {"ElementDataFile": "LOCAL" if data is None else data.name}  # fmt: skip
    text = "".join(f"{k} = {v}\n" for k, v in header.items()).encode()
    path.write_bytes(text + (raw if data is None else b""))
    if data is not None:
        data.write_bytes(raw)
    return path


def _row(numbers):
    return " ".join(f"{x:.10g}" for x in numbers)


def anatomy(left=5, back=12, up=16):
    """Intensities (x, y, z) of a patient: values tell left from right, back from front and head from feet."""
    x, y, z = np.meshgrid(np.arange(left), np.arange(back), np.arange(up), indexing="ij")
    return (x * 1000 + y * 40 + z).astype(np.int16)


def stored_ways():
    """All 48 ways to store a volume: for axes i, j, k of the file the patient's axis (0 x, 1 y, 2 z) and its sign."""
    return [list(zip(p, s, strict=True)) for p in permutations(range(3)) for s in product((1, -1), repeat=3)]


def stored(volume, way, spacing=(1.0, 1.0, 1.0)):
    """A volume (x, y, z) stored in one of these ways: array (i, j, k), steps along i, j, k as rows, origin (LPS)."""
    array = volume.transpose([a for a, _ in way])[tuple(slice(None, None, s) for _, s in way)]
    axes, origin = np.zeros((3, 3)), np.zeros(3)
    for n, (a, s) in enumerate(way):
        axes[n, a] = s * spacing[a]
        origin[a] = 0 if s > 0 else (volume.shape[a] - 1) * spacing[a]
    return np.ascontiguousarray(array), axes, origin
