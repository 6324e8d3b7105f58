"""The objects that are measured: sample data of dicomlake, multiplied by renaming UIDs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import enhanced
from dicomlake import datasets

_FOLDERS = ("ct", "mr", "long-ct", "tiny", "jpeg-ls", "jpeg-2000", "enhanced", "catalog")
_JPEG_LS = "1.2.840.10008.1.2.4.80"  # JPEG-LS Lossless
_JPEG_2000 = "1.2.840.10008.1.2.4.90"  # JPEG 2000 Lossless Only


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is to do."""

    ct: int = 300
    """Slices of the chest CT, 512 x 512."""
    mr_series: int = 20
    """Series of small MR images, 256 x 256."""
    mr_slices: int = 25
    """Slices of each; four echoes make four images of a slice."""
    long_ct: int = 2000
    """Slices of the CT whose conversion must fit in memory, 512 x 512."""
    frames: int = 2000
    """Frames of the enhanced CT, one object, 512 x 512."""
    patches: int = 32
    """Cubes cut out of a volume at random."""
    patch: int = 64
    """Voxels along the side of each."""
    tiny: int = 1000
    """Series of one image of 16 x 16 pixels."""
    starts: int = 5
    """Processes that are started to time an import once."""
    series: int = 1_044_191
    """Series of the large catalog: all of `idc-index-data` 25; made up where they are fewer than 10,000."""
    tagged: int = 150_000
    """Series whose full headers are searched; likewise."""
    found: int = 5000
    """Instances that Orthanc is asked about."""
    writing_s: float = 5
    """Seconds that writers commit series for."""
    soak: int = 50_000
    """Small objects that a receiver takes while its memory is looked at."""

    @property
    def mr_images(self) -> int:
        """Images of each MR series."""
        return 4 * self.mr_slices


QUICK = Sizes(
    ct=6,
    mr_series=2,
    mr_slices=1,
    long_ct=8,
    frames=8,
    patches=3,
    patch=4,
    tiny=5,
    starts=1,
    series=2000,
    tagged=2000,
    found=50,
    writing_s=0.5,
    soak=200,
)


@dataclass(frozen=True, slots=True)
class Workload:
    """Folders of DICOM files, and how much is in them.

    jpeg_ls, jpeg_2000: the CT, compressed losslessly. enhanced: one large object. catalog: where the
    fixtures of jobs about the catalog lie, which make them when they are first run.
    """

    sizes: Sizes
    ct: Path
    mr: Path
    long_ct: Path
    tiny: Path
    jpeg_ls: Path
    jpeg_2000: Path
    enhanced: Path
    catalog: Path


def files(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_headers(paths: Sequence[Path]) -> list[tuple[str, Any]]:
    """SOPInstanceUID and header of each file, as an ingest reads them."""
    from dicomlake.dicom.headers import HeaderReader
    from dicomlake.ingest.sources.content import FileContent

    reader = HeaderReader()
    found = []
    for path in paths:
        dataset = reader.read(FileContent(path, path.stat().st_size)).dataset
        uid = dataset.text("SOPInstanceUID")
        if uid:
            found.append((uid, dataset))
    return found


def warm(paths: Iterable[Path]) -> None:
    """Read files, so that they are in the page cache."""
    for path in paths:
        path.read_bytes()


def evict(paths: Iterable[Path]) -> None:
    """Drop files from the page cache."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)  # only clean pages are dropped
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def prepare(folder: Path, sizes: Sizes) -> Workload:
    """Make the workload, or take the one of these sizes that lies there already."""
    note, wanted = folder / "sizes.json", asdict(sizes)
    made = Workload(sizes, *(folder / name for name in _FOLDERS))
    if note.is_file() and json.loads(note.read_text()) == wanted:
        return made
    shutil.rmtree(folder, ignore_errors=True)
    datasets.make("chest-ct", made.ct, slices=sizes.ct)
    _make_mr(made.mr, sizes)
    _make_long_ct(made.long_ct, files(made.ct), sizes.long_ct)
    _make_tiny(made.tiny, sizes.tiny)
    _make_compressed(made.jpeg_ls, files(made.ct), _JPEG_LS)
    _make_compressed(made.jpeg_2000, files(made.ct), _JPEG_2000)
    enhanced.write(made.enhanced / "enhanced.dcm", files(made.ct), sizes.frames)
    note.write_text(json.dumps(wanted))
    return made


def _make_mr(folder: Path, sizes: Sizes) -> None:
    """The images of one brain-mr, again and again as other series of other studies."""
    pattern = datasets.make("brain-mr", folder / "pattern", slices=sizes.mr_slices)
    truth = datasets.truth("brain-mr", slices=sizes.mr_slices)
    frame_of_reference = truth.frame_of_reference_uid or truth.series_uid
    uids = (truth.study_uid, truth.series_uid, frame_of_reference, *truth.instance_uids)
    for path in files(pattern):
        image = path.read_bytes()
        own = [uid for uid in uids if uid.encode() in image]
        for number in range(sizes.mr_series):
            target = folder / f"series{number:02d}" / path.name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(renamed(image, own, number))
    shutil.rmtree(pattern)


def renamed(image: bytes, uids: Sequence[str], number: int) -> bytes:
    """An object in which these UIDs end with a number; as lengths stay, nothing else has to change."""
    for uid in uids:
        image = image.replace(uid.encode(), f"{uid[:-5]}{number:05d}".encode())
    return image


def _make_long_ct(folder: Path, slices: Sequence[Path], count: int) -> None:
    """A long series, half a millimetre apart, with the pixels of a shorter one over and over."""
    import pydicom
    from pydicom.uid import UID

    folder.mkdir()
    for number in range(count):
        image = pydicom.dcmread(slices[number % len(slices)])
        x, y, _z = image.ImagePositionPatient
        image.StudyInstanceUID, image.SeriesInstanceUID = UID("2.25.2000"), UID("2.25.2001")
        image.SOPInstanceUID = UID(f"2.25.2002.{number + 1}")
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.InstanceNumber = number + 1
        image.ImagePositionPatient = [x, y, number / 2]
        image.SliceLocation = number / 2
        image.save_as(folder / f"{number:04d}.dcm")


def _make_tiny(folder: Path, count: int) -> None:
    """Series of one small image each, ten to a study."""
    import pydicom

    pattern = datasets.make("brain-mr", folder / "pattern", slices=1)
    image = pydicom.dcmread(files(pattern)[0])
    image.PixelData = image.pixel_array[:16, :16].tobytes()
    image.Rows = image.Columns = 16
    image.save_as(pattern / "tiny.dcm")
    data = (pattern / "tiny.dcm").read_bytes()
    own = [image.SeriesInstanceUID, image.SOPInstanceUID]
    for number in range(count):
        made = renamed(renamed(data, own, number), [image.StudyInstanceUID], number // 10)
        (folder / f"{number:05d}.dcm").write_bytes(made)
    shutil.rmtree(pattern)


def _make_compressed(folder: Path, slices: Sequence[Path], transfer_syntax: str) -> None:
    """The same images, compressed by pydicom's encoders. Raises ValueError if another decoder, GDCM within
    SimpleITK, sees other values in them."""
    import numpy as np
    import pydicom
    import SimpleITK

    def seen(path: Path) -> np.ndarray:
        values: np.ndarray = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        return values

    folder.mkdir()
    for path in slices:
        image = pydicom.dcmread(path)
        image.compress(transfer_syntax, generate_instance_uid=False)
        image.save_as(folder / path.name)
        if not np.array_equal(seen(folder / path.name), seen(path)):
            raise ValueError(f"{path.name} has changed by compression: {transfer_syntax}")
