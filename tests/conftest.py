"""What all tests share: the real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import real_data_folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real DICOM files; skips where it is absent."""
    folder = real_data_folder()
    if folder is None:
        pytest.skip("no real DICOM files: set DICOMLAKE_TESTDATA to their folder")
    return folder
