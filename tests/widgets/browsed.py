"""Lakes for the tests of the browser: a small real one, and an invented one as large as one likes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

import dicomlake
from dicomlake.datasets import make, trial
from dicomlake.records import SeriesKey
from tests.objects import as_bytes, dataset

EVIL = "<img src=x onerror=window.hacked=1>"
EVIL_NAME = "<b>Evil</b>^<script>Mark"


def real_lake(folder: Path) -> dicomlake.Lake:
    """Two patients of the trial, a small chest CT, and one series with odd things in its header."""
    trial.write(folder / "trial", patients=2)
    make("chest-ct", folder / "ct", slices=6)
    (folder / "odd").mkdir()
    (folder / "odd" / "one.dcm").write_bytes(as_bytes(odd()))
    lake = dicomlake.open(folder / "lake", create=True)
    lake.ingest(folder / "trial", folder / "ct", folder / "odd", progress=False)
    return lake


def odd() -> Dataset:
    """A CT slice whose texts are HTML, with a nested sequence, private elements and a long value."""
    made = dataset()
    made.PatientName = EVIL_NAME
    made.PatientID = "ODD-1"
    made.SeriesDescription = EVIL
    made.ImageComments = "long " * 200
    inner, outer = Dataset(), Dataset()
    inner.CodeValue, inner.CodingSchemeDesignator, inner.CodeMeaning = "T-D1", "SRT", EVIL
    outer.ProcedureCodeSequence = Items([inner])
    outer.RequestedProcedureID = "RP-7"
    made.RequestAttributesSequence = Items([outer])
    block = made.private_block(0x0019, "ACME 1.0", create=True)
    block.add_new(0x10, "LO", "private words")
    block.add_new(0x11, "OB", b"\x00\x01" * 30)
    return made


class _Answer:
    def __init__(self, columns: Sequence[str], rows: list[tuple[Any, ...]], arrays: Any = None) -> None:
        self.columns, self._rows, self._arrays = list(columns), rows, arrays

    def rows(self) -> list[tuple[Any, ...]]:
        return self._rows

    def fetchnumpy(self) -> Any:
        return self._arrays


class FakeLake:
    """So many patients with so many series each, one study a patient. `served`: ids whose rows were read."""

    read_only = False

    def __init__(self, patients: int, per_patient: int) -> None:
        self.patients, self.per_patient = patients, per_patient
        self.served: list[list[int]] = []

    @property
    def stamp(self) -> tuple[str, int]:
        return "fake", 1

    def counts(self) -> dict[str, int]:
        return {"patients": self.patients, "series": self.patients * self.per_patient}

    def sql(self, query: str) -> Any:
        if "WITH groups" in query:
            return _Answer((), [], self._numbers())
        found = re.search(r"series_id IN \(([^)]*)\)", query)
        ids = [int(i) for i in found[1].split(",")] if found else []
        if "patients" in query and "labels" not in query:
            self.served.append(ids)
            return _Answer(("id", "PatientID", "PatientName"), [(i, *self._patient(i)) for i in ids])
        if "studies" in query:
            rows = [(i, "20240101", "Study") for i in ids]
            return _Answer(("id", "StudyDate", "StudyDescription"), rows)
        if "volumes" in query:
            columns = ("id", "number", "verdict", "reason", "dims", "shape", "gaps", "built")
            shape = (json.dumps(["z", "y", "x"]), json.dumps([8, 64, 64]), None, True)
            return _Answer(columns, [(i, 0, "regular", "a constant step", *shape) for i in ids])
        return _Answer(("id", "level", "name", "text"), [])

    def _numbers(self) -> dict[str, Any]:
        count = self.patients * self.per_patient
        of = np.arange(count) // self.per_patient
        day = 20200101 + of % 28
        sizes = np.full(count, 1000)
        return {
            "series_id": np.arange(1, count + 1),
            "patient": of,
            "study": of,
            "day": day,
            "bytes": sizes,
        }

    def _patient(self, series_id: int) -> tuple[str, str]:
        number = (series_id - 1) // self.per_patient
        return f"P{number:07d}", f"Patient^{number:07d}"

    def series_rows(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        self.served.append(list(ids))
        return [
            {
                "id": i,
                "SeriesInstanceUID": f"1.2.{i}",
                "StudyInstanceUID": f"1.3.{i}",
                "Modality": "CT",
                "SeriesNumber": i % self.per_patient,
                "SeriesDescription": f"Series {i}",
                "instances": 8,
                "bytes": 1000,
            }
            for i in ids
        ]

    def matching(self, _expression: Any) -> Any:
        return np.arange(1, self.patients * self.per_patient + 1, 2)

    def series_volumes(self, _key: SeriesKey) -> list[Any]:
        return []

    def findings(self) -> list[Any]:
        return []

    conflicts = refused = findings

    def find(self, _uid: str) -> list[Any]:
        return []

    def search(self, _words: str, **_how: Any) -> Any:
        return []

    def instances(self, _key: SeriesKey) -> list[Any]:
        return []

    def series_id(self, key: SeriesKey) -> int:
        return int(key.series_uid.rpartition(".")[2])
