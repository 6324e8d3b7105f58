"""Rows of attributes: folded text, typed numbers, multiplicity; folding and typed values by themselves."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

import dicomlake
from dicomlake.catalog import reader
from dicomlake.catalog.attributes import AttributeRow, rows
from dicomlake.catalog.query.folding import fold, fold_value
from dicomlake.catalog.query.spans import span
from dicomlake.dicom.values import typed
from tests.objects import dicom


def days(year: int, month: int, day: int) -> float:
    return float((date(year, month, day) - date(1970, 1, 1)).days)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[AttributeRow]]:
    """Path -> rows of a series of 80 instances, of which one is unlike."""
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    same: dict[str, Any] = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Ærø^Łukasz^"}
    same |= {"StudyDate": "20240315", "ReferencedImageSequence": [item]}
    objects = [dicom(n, ContentTime=f"1200{n % 60:02}.{n:03}", **same) for n in range(1, 80)]
    same["ReferencedImageSequence"] = [item, item]
    objects.append(dicom(80, KVP="", ImageType=["DERIVED"], **same))
    with dicomlake.open(tmp_path_factory.mktemp("rows") / "lake", create=True) as lake:
        lake.ingest(objects, volumes=False)
        with lake._catalog.read() as view:
            (row,) = reader.series_rows(view)
            by_path: dict[str, list[AttributeRow]] = {}
            for one in rows(reader.headers_of(view, row["id"])):
                by_path.setdefault(one.path, []).append(one)
    return by_path


def test_names_are_folded_and_codes_are_not(found: dict[str, list[AttributeRow]]) -> None:
    (name,) = found["PatientName"]
    assert (name.text, name.fold) == ("Ærø^Łukasz^", "aero^lukasz")
    assert {row.fold for row in found["Modality"]} == {None}
    assert {row.fold for row in found["StudyDate"]} == {None}


def test_dates_and_times_have_numbers(found: dict[str, list[AttributeRow]]) -> None:
    (day,) = found["StudyDate"]
    assert (day.low, day.high) == (days(2024, 3, 15),) * 2
    (summary,) = [row for row in found["ContentTime"] if row.text is None]
    assert summary.low == pytest.approx(43200 + 0.06)
    assert summary.high == pytest.approx(43200 + 59 + 0.059)
    assert (summary.vm_low, summary.vm_high, summary.instances) == (1, 1, 79)


def test_multiplicity_is_that_of_instances_and_items(found: dict[str, list[AttributeRow]]) -> None:
    assert {(row.vm_low, row.vm_high) for row in found["ImageType"]} == {(1, 3)}
    assert {(row.vm_low, row.vm_high, row.text) for row in found["KVP"]} == {(0, 0, "")}
    assert {(row.vm_low, row.vm_high) for row in found["ReferencedImageSequence"]} == {(1, 2)}
    assert {row.instances for row in found["ReferencedImageSequence.ReferencedSOPInstanceUID"]} == {80}
    (summary,) = found["ImagePositionPatient"]
    assert (summary.text, summary.vm_low, summary.vm_high, summary.high) == (None, 3, 3, 80.0)


@given(st.text(max_size=40))
def test_folding_again_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(alphabet=st.characters(codec="latin-1", categories=["L"]), max_size=20))
def test_case_does_not_count(text: str) -> None:
    assert fold(text.upper()) == fold(text.lower()) == fold(text)


def test_folding_keeps_what_makes_another_letter() -> None:
    assert fold("José MÜLLER Straße Ångström Łódź Œuvre") == "jose muller strasse angstrom lodz oeuvre"
    assert fold("が") != fold("か")
    assert fold("ＣＴ ﾔﾏﾀﾞ") == "ct ヤマダ"
    assert fold_value("PN", "Doe ^ Jane^^ =") == "doe^jane"
    assert fold_value("CS", "CT") is None


@pytest.mark.parametrize(
    ("vr", "text", "number"),
    [
        ("DA", "20240315", days(2024, 3, 15)),
        ("DA", "2024.03.15", days(2024, 3, 15)),  # ACR-NEMA
        ("DA", "19691231", -1.0),
        ("DA", "20230229", None),
        ("DA", "", None),
        ("TM", "10", 36000.0),
        ("TM", "103015.25", 37815.25),
        ("TM", "24", None),
        ("DT", "20240315103015", datetime(2024, 3, 15, 10, 30, 15, tzinfo=UTC).timestamp()),
        ("DT", "20240315103015.5+0130", datetime(2024, 3, 15, 9, 0, 15, 500000, tzinfo=UTC).timestamp()),
        ("DT", "20240315", datetime(2024, 3, 15, tzinfo=UTC).timestamp()),
        ("DT", "202403", datetime(2024, 3, 1, tzinfo=UTC).timestamp()),
        ("DT", "2024", datetime(2024, 1, 1, tzinfo=UTC).timestamp()),
        ("DT", "2024-0500", datetime(2024, 1, 1, 5, tzinfo=UTC).timestamp()),
        ("DT", "202413", None),
        ("AS", "006M", 0.5),
        ("DS", "1e999", None),
        ("LO", "12", None),
    ],
)
def test_a_value_is_the_number_it_is_ordered_by(vr: str, text: str, number: float | None) -> None:
    assert typed(vr, text) == number


@given(st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9998, 12, 31)))
def test_what_is_asked_lies_where_the_value_lies(moment: datetime) -> None:
    """Of date, time and both: the span of the ISO form begins at, or holds, the value as DICOM writes it."""
    for vr, written, asked in (
        ("DA", f"{moment:%Y%m%d}".zfill(8), moment.date().isoformat()),
        ("TM", f"{moment:%H%M%S}", f"{moment:%H:%M}"),
        ("DT", f"{moment.year:04}{moment:%m%d%H%M%S}", moment.isoformat(timespec="seconds")),
    ):
        stretch, value = span(vr, asked), typed(vr, written)
        assert stretch is not None
        assert value is not None
        assert stretch.low <= value
        assert value < stretch.high or (value == stretch.high and not stretch.open)
