"""Sample data that is computed, not downloaded: `make("chest-ct")` writes a DICOM series.

Every voxel follows from a formula in the module of its data set, so a reader can be checked
against the truth and not against another reader. All patients are invented.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from dicomlake.datasets._truth import Truth

__all__ = ["digest", "make", "names", "pydicom_samples", "truth"]

_MODULES = {
    "chest-ct": "chest_ct",
    "brain-mr": "brain_mr",
    "dynamic-pet": "dynamic_pet",
    "us-cine": "us_cine",
    "chest-rt": "chest_rt",
}
_NOT_DICOM = {".txt", ".dump", ".json", ".icc", ".gz", ".py", ".zip"}


class _Generator(Protocol):
    SLICES: int

    def write(self, folder: Path, *, slices: int, seed: int) -> None: ...

    def truth(self, slices: int, seed: int) -> Truth: ...


def names() -> tuple[str, ...]:
    """The data sets that `make` knows."""
    return tuple(_MODULES)


def make(name: str, folder: str | Path | None = None, *, slices: int | None = None, seed: int = 0) -> Path:
    """Write a data set as DICOM files and return their folder.

    name: one of `names()`.
    folder: created if missing, files of the same name are replaced; None makes a new temporary folder.
    slices: number of slices, for us-cine of frames; None takes the data set's own number.
    seed: another patient number, other UIDs, other noise; the anatomy stays.

    Same arguments, same bytes, on any machine. chest-rt belongs to the chest-ct of the same
    `slices` and `seed`. Raises ValueError for a name, a number of slices or a seed that cannot be.
    """
    generator = _generator(name)
    count = _checked(generator, slices, seed)
    if folder is None:
        from tempfile import mkdtemp

        folder = mkdtemp(prefix=f"dicomlake-{name}-")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    generator.write(target, slices=count, seed=seed)
    return target


def truth(name: str, *, slices: int | None = None, seed: int = 0) -> Truth:
    """Shape, geometry, units and UIDs that the images of `make` with the same arguments must show.

    For chest-rt this is its dose grid; the module `chest_rt` tells of the other objects.
    """
    generator = _generator(name)
    return generator.truth(_checked(generator, slices, seed), seed)


def digest(folder: str | Path) -> str:
    """One SHA-256 over the sorted relative names in a folder and the SHA-256 of each file's bytes.

    The text that is hashed has a line `<sha256>  <name>` for each file, as `sha256sum` prints it.
    """
    root = Path(folder)
    return digest_of({path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()})


def digest_of(files: dict[str, Path]) -> str:
    """The digest of files under the names given."""
    total = hashlib.sha256()
    for name in sorted(files):
        with files[name].open("rb") as stream:
            total.update(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n".encode())
    return total.hexdigest()


def pydicom_samples() -> list[Path]:
    """The DICOM files that pydicom's wheel brings along, sorted; nothing is downloaded.

    Real and odd objects of many makers, some without preamble or file meta, some broken on purpose.
    """
    import pydicom.data

    home = Path(pydicom.data.__file__).parent
    return sorted(
        path
        for folder in ("test_files", "charset_files")
        for path in (home / folder).rglob("*")
        if path.is_file() and path.suffix not in _NOT_DICOM and not path.name.startswith("README")
    )


def _generator(name: str) -> _Generator:
    if name not in _MODULES:
        raise ValueError(f"no data set {name!r}; choose one of {', '.join(_MODULES)}")
    return cast(_Generator, import_module(f"dicomlake.datasets.{_MODULES[name]}"))


def _checked(generator: _Generator, slices: int | None, seed: int) -> int:
    count = generator.SLICES if slices is None else slices
    if not 1 <= count <= 9999:
        raise ValueError(f"{count} slices cannot be made; ask for 1 to 9999")
    if not 0 <= seed <= 9999:
        raise ValueError(f"seed {seed} cannot be used; choose 0 to 9999")
    return count
