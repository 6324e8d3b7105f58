"""CSA headers and mosaics as Siemens scanners write them, made by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from tests.dicom.phantoms import place_values, slice_dataset

CsaTags = Mapping[str, Sequence[str]]


def csa(tags: CsaTags, *, second: bool = True, items: int = 6) -> bytes:
    """A CSA header, CSA2 or CSA1; `items` is the least number of items a tag has, empty ones at its end."""
    out = b"SV10\4\3\2\1" if second else b""
    out += struct.pack("<2I", len(tags), 77)
    first_items = max(items, len(next(iter(tags.values()), ())))
    for name, values in tags.items():
        count = max(items, len(values))
        vr = b"IS\0\0" if all(value.isdigit() for value in values) else b"DS\0\0"
        out += struct.pack("<64si4s3i", name.encode(), len(values), vr, 3, count, 77)
        for index in range(count):
            raw = values[index].encode("latin-1") + b"\0" if index < len(values) else b""
            length = len(raw)
            out += struct.pack(
                "<4i", *([length] * 4 if second else [length + first_items, length, 77, length])
            )
            out += raw + bytes(-length % 4)
    return out


def protocol(centres: np.ndarray) -> str:
    """The part of MrPhoenixProtocol that says where slices were planned; zeros are left out, as there."""
    lines = ["### ASCCONV BEGIN ###", f"sSliceArray.lSize\t = \t{len(centres)}"]
    for index, centre in enumerate(centres):
        for axis, value in zip(("Sag", "Cor", "Tra"), centre, strict=True):
            if value:
                lines.append(f"sSliceArray.asSlice[{index}].sPosition.d{axis}\t = \t{value:.10g}")
    return "\n".join([*lines, "### ASCCONV END ###"])


def mosaic(
    orientation: tuple[float, ...],
    *,
    slices: int = 7,
    step: float = 4.0,
    downwards: bool = False,
    csa_tags: CsaTags | None = None,
    series_tags: CsaTags | None = None,
    **others: object,
) -> Dataset:
    """A mosaic whose slice k, counted along the normal, has its first voxel at (5, 6, 7) + k step normal.

    Voxels tell their slice, row and column. downwards: tiles go against the normal. csa_tags and
    series_tags replace tags of the two CSA headers; one that has no values is left out.
    """
    rows, columns, spacing = 4, 6, (1.5, 2.0)
    along_row, along_column = np.array(orientation).reshape(2, 3)
    normal = np.cross(along_row, along_column)
    order = range(slices)[::-1] if downwards else range(slices)
    size = int(np.ceil(np.sqrt(slices)))
    image = np.zeros((size * rows, size * columns), np.uint16)
    for index, k in enumerate(order):
        row, column = index // size * rows, index % size * columns
        image[row : row + rows, column : column + columns] = place_values(k, rows, columns)
    corners = np.array([np.array([5.0, 6.0, 7.0]) + k * step * normal for k in range(slices)])
    centre_offset = along_column * spacing[0] * rows / 2 + along_row * spacing[1] * columns / 2
    outer_offset = along_column * spacing[0] * rows * size / 2 + along_row * spacing[1] * columns * size / 2
    position = corners[order[0]] + centre_offset - outer_offset
    ds = slice_dataset(tuple(position), orientation=orientation, spacing=spacing, pixels=image)
    ds.SOPClassUID, ds.Modality, ds.Manufacturer = MRImageStorage, "MR", "SIEMENS"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    ds.SpacingBetweenSlices, ds.SliceThickness = step, step / 2
    tags = {
        "NumberOfImagesInMosaic": [str(slices)],
        "SliceNormalVector": [f"{x:.8f}" for x in (-normal if downwards else normal)],
        "ProtocolSliceNumber": [str(slices - 1 if downwards else 0)],
        **(csa_tags or {}),
    }
    series = {"MrPhoenixProtocol": [protocol(corners + centre_offset)], **(series_tags or {})}
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa({name: values for name, values in tags.items() if values}))
    block.add_new(0x20, "OB", csa({name: values for name, values in series.items() if values}))
    for keyword, value in others.items():
        setattr(ds, keyword, value)
    return ds
