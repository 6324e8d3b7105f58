"""Where the tests find files."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def real_data_folder() -> Path | None:
    """The folder of real DICOM files: DICOMLAKE_TESTDATA, else ../shared/data; None when absent."""
    folder = Path(os.environ.get("DICOMLAKE_TESTDATA") or PROJECT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


def pydicom_files() -> list[Path]:
    """The DICOM files, and what lies beside them, in the wheel of pydicom."""
    import pydicom

    folder = Path(pydicom.__file__).parent / "data"
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"})
