"""A lake to explore, and what pydicom says of its series, which no code of the catalog has touched."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom

import dicomlake
from dicomlake.datasets import trial
from dicomlake.lake import Lake
from dicomlake.widgets.explorer.explorer import Explorer
from tests.objects import ROOT, dicom

Truth = dict[str, dict[str, set[Any]]]
"""SeriesInstanceUID -> keyword -> the values of all its instances."""

TEXTS = ("Modality", "Manufacturer", "PatientSex", "SeriesDescription", "ImageType")
NUMBERS = ("SliceThickness", "KVP", "PatientAge")
_YEARS = {"D": 1 / 365.2425, "W": 7 / 365.2425, "M": 1 / 12, "Y": 1.0}


def odd_series() -> list[bytes]:
    """Series with what real archives have: values that vary, lack, differ in case, or look like patterns."""
    luck, found = random.Random(7), []
    for number in range(40):
        facts: dict[str, Any] = {
            "Manufacturer": luck.choice(
                ["SIEMENS", "Siemens", "GE MEDICAL SYSTEMS", "Ünïted, (Imaging)", None]
            ),
            "SeriesDescription": luck.choice(
                ["T2* ax?", "T2 ax", "t2 ax", 'it\'s "quoted"', "scout or not", None]
            ),
            "PatientSex": luck.choice(["M", "F", "O", None]),
            "KVP": luck.choice(["80", "100.0", "100", "120", "140", None]),
            "PatientAge": luck.choice(["034Y", "006M", "081Y", None]),
            "StudyDate": luck.choice(["20230115", "20230620", "20191231", "20240229", None]),
            "PatientID": f"odd-{number % 9}",
        }
        facts = {name: value for name, value in facts.items() if value is not None or name in _THERE}
        for instance in range(1, luck.choice([1, 2, 3]) + 1):
            thickness = luck.choice([0.5, 1, 1.25, 1.5, 2, 2.5, 3, 5])
            uid = f"{ROOT}.{100 + number // 2}.{number}"
            found.append(dicom(instance, series=uid, size=4, **facts, SliceThickness=thickness))
    many = f"{ROOT}.200.1"
    found += [dicom(n, series=many, size=4, PatientID="many", EchoTime=n * 1.5) for n in range(1, 71)]
    return found


_THERE = (
    "SeriesDescription",
    "PatientSex",
    "StudyDate",
)  # what tests.objects.dataset has, and None takes away


def made(folder: Path) -> tuple[Lake, Truth]:
    """A lake of a trial of twelve patients and of odd series, and the truth about it."""
    trial.write(folder / "trial", patients=12)
    paths = sorted((folder / "trial").glob("*.dcm"))
    odd = odd_series()
    lake = dicomlake.open(folder / "lake", create=True)
    lake.ingest(*paths, volumes=False)
    lake.ingest(*odd)
    lake.import_clinical("trial", folder / "trial" / trial.CLINICAL)
    lake.query(Modality="PT").set_label("quality", "good")
    return lake, truth([path.read_bytes() for path in paths] + odd)


def truth(objects: list[bytes]) -> Truth:
    """What the headers say, by pydicom."""
    found: Truth = {}
    for data in objects:
        ds = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
        held = found.setdefault(str(ds.SeriesInstanceUID), {})
        for name in (*TEXTS, *NUMBERS, "StudyDate", "StudyInstanceUID", "PatientID"):
            held.setdefault(name, set()).update(_values(ds, name))
    return found


def _values(ds: pydicom.Dataset, name: str) -> list[Any]:
    value = ds.get(name)
    if value is None or value == "":
        return []
    if name == "PatientAge":
        return [int(value[:3]) * _YEARS[value[3]]]
    if name in NUMBERS:
        return [float(value)]
    return [str(one) for one in value] if isinstance(value, pydicom.multival.MultiValue) else [str(value)]


class Asker:
    """An explorer whose browser is this test: what it sends is kept."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.said: list[tuple[dict[str, Any], list[Any]]] = []
        explorer.send = lambda content, buffers=None: self.said.append((content, buffers or []))

    def ask(self, name: str, /, **args: Any) -> dict[str, Any]:
        """The data of an answer. Raises AssertionError for a refusal."""
        answer, _buffers = self.answer(name, **args)
        assert "failed" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def answer(self, name: str, /, **args: Any) -> tuple[dict[str, Any], list[Any]]:
        """The whole answer with its buffers."""
        self.explorer._handle_custom_msg({"ask": name, "id": 1, "args": args}, [])
        found: tuple[dict[str, Any], list[Any]] = next(s for s in reversed(self.said) if "answer" in s[0])
        return found

    def refused(self, name: str, /, **args: Any) -> str:
        """What a refusal says."""
        return str(self.answer(name, **args)[0]["failed"])


def facet_of(shown: dict[str, Any], name: str) -> dict[str, Any]:
    """One facet of what is shown."""
    found: dict[str, Any] = next(one for one in shown["facets"] if one["name"] == name)
    return found
