"""What a tool makes of a folder of DICOM files: arrays with a place for each voxel.

Every reader below is used as its documentation says, with its defaults. `python -m benchmarks.outputs READER
FOLDER FILE` runs one in a process of its own and keeps the outputs in FILE.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr
    from pydicom import Dataset

Array = NDArray[Any]

_NIFTI_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI counts to the right and to the front
_COLOURS = 3


@dataclass(frozen=True)
class Output:
    """An array that a tool hands out.

    values: (t, k, j, i[, rgb]), t over all further axes in C order. centres: (k, j, i, 3), where each voxel
    lies, LPS, mm; None when the tool claims no place. rescales: whether factors that differ between planes
    come beside the values.
    """

    values: Array
    centres: Array | None
    rescales: bool = False


def centres_of(affine_lps: Array, shape: Sequence[int]) -> Array:
    """Where the voxels of a grid lie: (k, j, i, 3) for an affine from (k, j, i) to LPS, mm."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    placed: Array = index @ np.asarray(affine_lps, float)[:3, :3].T + np.asarray(affine_lps, float)[:3, 3]
    return placed


def plane_centres(
    position: Array, orientation: Array, spacing: Sequence[float], shape: Sequence[int]
) -> Array:
    """Where the pixels of a plane lie: (y, x, 3), PS3.3 C.7.6.2.1.1; spacing: between rows, columns."""
    down = np.asarray(orientation[3:], float) * spacing[0]
    right = np.asarray(orientation[:3], float) * spacing[1]
    rows, columns = np.arange(shape[0])[:, None, None], np.arange(shape[1])[None, :, None]
    placed: Array = np.asarray(position, float) + rows * down + columns * right
    return placed


def tried(make: Callable[[], Output]) -> Iterator[Output]:
    """An output, or none and a line about the error: what fails for one series is no end of the others."""
    try:
        yield make()
    except Exception as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)


# ---- dicomlake


def dicomlake(folder: Path) -> Iterator[Output]:
    """A new lake, the folder ingested, every series opened."""
    from tempfile import TemporaryDirectory

    import xarray as xr

    import dicomlake
    from dicomlake.errors import DicomlakeError

    with TemporaryDirectory() as place, dicomlake.open(Path(place) / "lake", create=True) as lake:
        lake.ingest(folder)
        for series in lake.query():
            for finding in series.findings:
                print(f"{finding.severity}: {finding.message}", file=sys.stderr)
            try:
                opened = series.open()
            except DicomlakeError as error:
                print(f"error: {error}", file=sys.stderr)
                continue
            nodes = [opened] if isinstance(opened, xr.Dataset) else list(opened.children.values())
            for node in nodes:
                yield of_dataset(node if isinstance(node, xr.Dataset) else node.to_dataset())


def of_dataset(opened: xr.Dataset) -> Output:
    """The image of an opened volume; without geometry each plane stands alone."""
    image = opened["image"]
    colour = (_COLOURS,) if image.dims[-1] == "rgb" else ()
    shape = image.shape[: image.ndim - len(colour)]
    centres = _centres_of_dataset(opened, shape[-3:])
    space = shape[-3:] if centres is not None else (1, *shape[-2:])
    return Output(image.values.reshape(-1, *space, *colour), centres, rescales=True)


def _centres_of_dataset(opened: xr.Dataset, shape: tuple[int, ...]) -> Array | None:
    """By the affine, or plane by plane where no affine places all of them."""
    image = opened["image"]
    if "affine_lps" in image.attrs:
        return centres_of(image.attrs["affine_lps"], shape)
    if "position_x" not in image.coords:
        return None
    positions = np.stack([image[f"position_{axis}"].values for axis in "xyz"], axis=-1)
    turned = opened["orientation"].values if "orientation" in opened else image.attrs["orientation"]
    spacing = image.attrs["pixel_spacing_mm"]
    orientations = np.broadcast_to(turned, (len(positions), 6))
    planes = zip(positions, orientations, strict=True)
    return np.stack([plane_centres(position, turn, spacing, shape[1:]) for position, turn in planes])


# ---- SimpleITK


def simpleitk(folder: Path) -> Iterator[Output]:
    """Each series ID that GDCM finds, read by an ImageSeriesReader: SimpleITK's example DicomSeriesReader."""
    import SimpleITK

    for series in SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
        yield from tried(partial(_executed, reader))


def _executed(reader: Any) -> Output:
    return of_simpleitk(reader.Execute())


def of_simpleitk(image: Any) -> Output:
    """An image of three or four axes; the fourth one is not of space."""
    import SimpleITK

    values = SimpleITK.GetArrayFromImage(image)
    count = image.GetDimension()
    turned = np.array(image.GetDirection()).reshape(count, count)[:3, :3] * np.array(image.GetSpacing()[:3])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned[:, ::-1], image.GetOrigin()[:3]  # i, j, k to k, j, i
    colour = image.GetNumberOfComponentsPerPixel() == _COLOURS
    space = values.shape[: values.ndim - colour][-3:]
    return Output(values.reshape(-1, *space, *((_COLOURS,) if colour else ())), centres_of(affine, space))


# ---- highdicom


def highdicom(folder: Path) -> Iterator[Output]:
    """get_volume_from_series for each series of images, get_volume for each object of many frames."""
    for paths, series in _series_of(folder):
        many = [path for path, dataset in zip(paths, series, strict=True) if "NumberOfFrames" in dataset]
        for path in many:
            yield from tried(partial(_of_many_frames, path))
        single = [dataset for dataset in series if "NumberOfFrames" not in dataset]
        if single:
            yield from tried(partial(_of_planes, single))


def _series_of(folder: Path) -> Iterator[tuple[list[Path], list[Dataset]]]:
    """Paths and data sets of each series of each study; objects without pixels are left out."""
    from collections import defaultdict

    import pydicom

    found: dict[tuple[str, str], list[tuple[Path, Dataset]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        if "PixelData" in dataset:
            found[dataset.StudyInstanceUID, dataset.SeriesInstanceUID].append((path, dataset))
    for members in found.values():
        yield [path for path, _ in members], [dataset for _, dataset in members]


def _of_many_frames(path: Path) -> Output:
    import highdicom

    return _of_volume(highdicom.imread(path).get_volume())


def _of_planes(series: Sequence[Dataset]) -> Output:
    import highdicom

    return _of_volume(highdicom.get_volume_from_series(series))


def _of_volume(volume: Any) -> Output:
    return Output(volume.array[np.newaxis], centres_of(volume.affine, volume.array.shape[:3]))


# ---- NIfTI


def nifti(folder: Path) -> Iterator[Output]:
    """All NIfTI files of a folder, as nibabel opens them: scaled by the header's slope."""
    for path in sorted([*folder.rglob("*.nii"), *folder.rglob("*.nii.gz")]):
        yield from tried(partial(_of_nifti, path))


def _of_nifti(path: Path) -> Output:
    import nibabel

    image: Any = nibabel.load(path)  # type: ignore[attr-defined]
    values = np.asarray(image.dataobj)
    if values.dtype.names:  # colour
        values = np.stack([values[name] for name in values.dtype.names[:_COLOURS]], axis=-1)
    colour = values.shape[image.ndim :]
    shape = (*image.shape, 1, 1)[: max(3, image.ndim)]
    axes = tuple(range(len(shape)))[::-1]  # i, j, k, t to t, k, j, i
    values = values.reshape(*shape, *colour).transpose(*axes, *range(len(shape), len(shape) + len(colour)))
    values = values.reshape(-1, *shape[2::-1], *colour)
    if not int(image.header["qform_code"]) and not int(image.header["sform_code"]):
        return Output(values, None)
    affine = _NIFTI_TO_LPS @ image.affine
    return Output(values, centres_of(affine[:, [2, 1, 0, 3]], shape[2::-1]))


# ---- in a process of its own

READERS: dict[str, Callable[[Path], Iterator[Output]]] = {
    "dicomlake": dicomlake,
    "simpleitk": simpleitk,
    "highdicom": highdicom,
}


def keep(outputs: Sequence[Output], path: Path) -> None:
    """Write outputs, to be read with `kept`."""
    arrays: dict[str, Array] = {"rescales": np.array([one.rescales for one in outputs], bool)}
    for i, one in enumerate(outputs):
        arrays[f"values{i}"] = one.values
        if one.centres is not None:
            arrays[f"centres{i}"] = one.centres
    np.savez(path, **arrays)  # type: ignore[arg-type]


def kept(path: Path) -> list[Output]:
    """Read what `keep` wrote."""
    with np.load(path) as arrays:
        return [
            Output(arrays[f"values{i}"], arrays.get(f"centres{i}"), bool(rescales))
            for i, rescales in enumerate(arrays["rescales"])
        ]


def main(reader: str, folder: Path, path: Path) -> None:
    """Keep what the reader gives."""
    keep(list(READERS[reader](folder)), path)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
