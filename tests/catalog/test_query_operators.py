"""Every operator on objects whose values are known, by keyword and as text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

import dicomlake
from dicomlake.catalog.query import columns, instances_where, matching, parse
from dicomlake.errors import QueryError
from dicomlake.lake import Lake
from tests.objects import ROOT, dicom, series

NAMES = {f"{ROOT}.{i + 1}.1": name for i, name in enumerate("abcde")}


def item(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def private(number: int, **others: Any) -> bytes:
    from tests.objects import as_bytes, dataset

    ds = dataset(number, **others)
    block = ds.private_block(0x0019, "DICOMLAKE TEST", create=True)
    block.add_new(0x0C, "LO", "Straße")
    block.add_new(0x0D, "DA", "20240315")
    block.add_new(0x0E, "DS", ["1.50", "3"])
    inner = item(SeriesDescription="inside")
    nested = inner.private_block(0x0021, "DICOMLAKE DEEP", create=True)
    nested.add_new(0x01, "IS", "12")
    block.add_new(0x0F, "SQ", [inner])
    return as_bytes(ds)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Five series, a to e."""
    a, b, c, d, e = NAMES
    with dicomlake.open(tmp_path_factory.mktemp("operators") / "lake", create=True) as lake:
        lake.ingest(
            dicom(
                1, series=a, KVP=80, PatientName="Müller^Jörg^^Dr.", SeriesDescription="Thorax & Chest 100%"
            ),
            dicom(
                2, series=a, KVP=120, PatientName="Müller^Jörg^^Dr.", SeriesDescription="Thorax & Chest 100%"
            ),
            dicom(
                1,
                series=b,
                SpecificCharacterSet="ISO_IR 192",
                PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
                PatientID="AbC",
                StudyDate="20240315",
                StudyTime="103015.25",
                AcquisitionDateTime="20240315103015.000000+0100",
                PatientAge="062Y",
                ReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.3"), item(SeriesInstanceUID="1.2.4")],
            ),
            dicom(
                1,
                series=c,
                KVP="",
                PatientID="abc",
                PatientAge="006M",
                StudyDate="20231231",
                StudyTime="10",
                ImageType=["DERIVED", "PRIMARY"],
                SeriesDescription="it's; DROP TABLE series --",
                ImageComments="a\\b, one text",
                ReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.4")],
            ),
            private(1, series=d, AccessionNumber="X1", PatientAge="003W", AcquisitionDateTime="2024"),
            series(100, e, KVP=140, StudyDate="20240401"),
            volumes=False,
        )
        yield lake


@pytest.fixture(scope="module")
def session(lake: Lake) -> Iterator[Any]:
    with lake._mirror.session() as opened:
        yield opened


def found(lake: Lake, session: Any, *texts: str, **wanted: Any) -> str:
    """Letters of the series that are found."""
    ids = matching(session, parse(*texts, **wanted), lake.headers).tolist()
    rows = session.execute("SELECT series_id, SeriesInstanceUID FROM series").fetchall()
    return "".join(sorted(NAMES[uid] for i, uid in rows if i in ids))


@pytest.mark.parametrize(
    ("wanted", "letters"),
    [
        ({}, "abcde"),
        # numbers
        ({"KVP": 80}, "a"),
        ({"KVP": "80.0"}, "a"),
        ({"KVP": np.float32(80)}, "a"),
        ({"KVP": [80, 140]}, "ae"),
        ({"KVP__in": {80, 140}}, "ae"),
        ({"KVP": (100, 130)}, "a"),
        ({"KVP": (100, None)}, "ae"),
        ({"KVP": (None, None)}, "ae"),
        ({"KVP__ge": 120}, "ae"),
        ({"KVP__gt": 120}, "e"),
        ({"KVP__le": 80}, "a"),
        ({"KVP__lt": 80}, ""),
        ({"KVP__ne": 80}, "bcde"),
        ({"KVP__all": (70, 130)}, "a"),
        ({"KVP__all__ge": 100}, "e"),
        ({"KVP__any__ge": 100}, "ae"),
        ({"KVP": float("inf")}, ""),
        ({"KVP": 10**400}, ""),
        ({"KVP__lt": 10**400}, "ae"),
        # presence
        ({"KVP__missing": True}, "bcd"),
        ({"KVP__missing": False}, "ae"),
        ({"KVP__empty": True}, "c"),
        ({"KVP__empty": False}, "abde"),
        ({"KVP": ""}, "c"),
        ({"KVP__ne": ""}, "abde"),
        ({"ReferencedSeriesSequence__missing": False}, "bc"),
        ({"ReferencedSeriesSequence__count": 2}, "b"),
        ({"ImageType__count": 2}, "c"),
        ({"ImageType__count__ge": 3}, "abde"),
        ({"ImageComments__count": 1}, "c"),
        # text
        ({"SeriesDescription": "THORAX & chest 100%"}, "a"),
        ({"SeriesDescription__exact": "THORAX & chest 100%"}, ""),
        ({"SeriesDescription": "*chest*"}, "a"),
        ({"SeriesDescription": "*100%"}, "a"),
        ({"SeriesDescription__like": "thora? *"}, "a"),
        ({"SeriesDescription__exact": "Thorax*"}, ""),
        ({"SeriesDescription__contains": "CHEST"}, "a"),
        ({"SeriesDescription__contains": ["chest", "small"]}, "abde"),
        ({"SeriesDescription__contains__exact": "CHEST"}, ""),
        ({"SeriesDescription__startswith": "thor"}, "a"),
        ({"SeriesDescription__endswith": "100%"}, "a"),
        ({"SeriesDescription__contains": "0_"}, ""),
        ({"SeriesDescription__regex": r"ch.st \d+"}, "a"),
        ({"SeriesDescription": "it's; DROP TABLE series --"}, "c"),
        ({"SeriesDescription": "' OR '1'='1"}, ""),
        ({"SeriesDescription__like": "' OR 1=1 --*"}, ""),
        ({"ImageComments": "a\\b, one text"}, "c"),
        ({"Modality": "ct"}, ""),  # codes are compared as written
        ({"PatientID": "abc"}, "c"),  # so is what identifies
        ({"AccessionNumber": "x1"}, ""),
        ({"ImageType[0]": "DERIVED"}, "c"),
        ({"ImageType[1]": "DERIVED"}, ""),
        ({"ImageType[2]": "AXIAL"}, "abde"),
        ({"ImageType[2]__missing": True}, "c"),
        ({"PixelSpacing[1]__lt": 1}, "abcde"),
        # names
        ({"PatientName": "muller^jorg^^dr."}, "a"),
        ({"PatientName": "MÜLLER^JÖRG^^DR."}, "a"),
        ({"PatientName": "muller*"}, "a"),
        ({"PatientName__exact": "muller^jorg^^dr."}, ""),
        ({"PatientName": "Yamada^Tarou"}, "b"),
        ({"PatientName": "山田^太郎"}, "b"),
        ({"PatientName": "やまだ^たろう^^"}, "b"),
        ({"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"}, "b"),
        ({"PatientName.family": "YAMADA"}, "b"),
        ({"PatientName__family": "山田"}, "b"),
        ({"PatientName.given": "jörg"}, "a"),
        ({"PatientName.given": "tar*"}, "b"),
        ({"PatientName.family": "Tarou"}, ""),
        ({"PatientName.suffix": "dr."}, ""),
        ({"PatientName.prefix": "dr."}, "a"),
        ({"PatientName.prefix__missing": True}, "bcde"),
        # dates, times, ages
        ({"StudyDate": date(2024, 3, 15)}, "b"),
        ({"StudyDate": datetime(2024, 3, 15, 12)}, "b"),
        ({"StudyDate": "2024-03-15"}, "b"),
        ({"StudyDate": "20240315"}, "b"),
        ({"StudyDate": 20240315}, "b"),
        ({"StudyDate": "2024"}, "abde"),
        ({"StudyDate": "2024-03"}, "b"),
        ({"StudyDate__gt": "2024-03"}, "e"),
        ({"StudyDate__ge": "2024-03"}, "be"),
        ({"StudyDate__le": "2023"}, "c"),
        ({"StudyDate__lt": "2024"}, "c"),
        ({"StudyDate": ("2023", "2024-02")}, "acd"),
        ({"StudyDate": "202403*"}, "b"),
        ({"StudyTime": time(10, 30, 15)}, "b"),
        ({"StudyTime": "10:30:15.25"}, "b"),
        ({"StudyTime": "10:30"}, "b"),
        ({"StudyTime": "10"}, "bc"),
        ({"StudyTime": "103015.3"}, ""),
        ({"AcquisitionDateTime": "2024-03-15T09:30:15"}, "b"),  # UTC: its own offset is applied
        (
            {"AcquisitionDateTime": datetime(2024, 3, 15, 10, 30, 15, tzinfo=timezone(timedelta(hours=1)))},
            "b",
        ),
        ({"AcquisitionDateTime": "2024"}, "bd"),
        ({"AcquisitionDateTime__gt": "2024-02"}, "b"),
        ({"PatientAge": 62}, "b"),
        ({"PatientAge": "062Y"}, "b"),
        ({"PatientAge": "62Y"}, "b"),
        ({"PatientAge": "6M"}, "c"),
        ({"PatientAge": 0.5}, "c"),
        ({"PatientAge__lt": "4W"}, "d"),
        # nested and private
        ({"ReferencedSeriesSequence.SeriesInstanceUID": "1.2.4"}, "bc"),
        ({"ReferencedSeriesSequence__SeriesInstanceUID": "1.2.4"}, "bc"),
        ({"ReferencedSeriesSequence[0].SeriesInstanceUID": "1.2.4"}, "c"),
        ({"ReferencedSeriesSequence[1].SeriesInstanceUID": "1.2.4"}, "b"),
        ({"ReferencedSeriesSequence[1].SeriesInstanceUID__missing": True}, "acde"),
        ({"0018,0060": 80}, "a"),
        ({"(0018,0060)__ge": 120}, "ae"),
        ({'0019,xx0C["DICOMLAKE TEST"]': "strasse"}, "d"),
        ({'0019,xx0c["DICOMLAKE TEST"]__exact': "strasse"}, ""),
        ({'0019,xx0D["DICOMLAKE TEST"]': date(2024, 3, 15)}, "d"),
        ({'0019,xx0D["DICOMLAKE TEST"]': "20240315"}, "d"),
        ({'0019,xx0D["DICOMLAKE TEST"]__ge': "2024-01-01"}, "d"),
        ({'0019,xx0D["DICOMLAKE TEST"]__gt': 5}, ""),  # a date is no number
        ({'0019,xx0E["DICOMLAKE TEST"]': 1.5}, "d"),
        ({'0019,xx0E["DICOMLAKE TEST"]': "1.5"}, "d"),
        ({'0019,xx0E["DICOMLAKE TEST"][1]': 1.5}, ""),
        ({'0019,xx0E["DICOMLAKE TEST"][1]': 3}, "d"),
        ({'0019,xx0E["DICOMLAKE TEST"]': (2, None)}, "d"),
        ({'0019,xx0E["ANOTHER"]': 1.5}, ""),
        ({'0019,xx0F["DICOMLAKE TEST"].SeriesDescription': "INSIDE"}, "d"),
        ({'0019,xx0F["DICOMLAKE TEST"].0021,xx01["DICOMLAKE DEEP"]': 12}, "d"),
        ({'0019,xx0F["DICOMLAKE TEST"][0].0021,xx01["DICOMLAKE DEEP"]': 12}, "d"),
        ({'0019,xx0F["DICOMLAKE TEST"][1].0021,xx01["DICOMLAKE DEEP"]': 12}, ""),
        # more values than the rows list
        ({"InstanceNumber": 77}, "e"),
        ({"InstanceNumber": 101}, ""),
        ({"InstanceNumber__all__le": 100}, "abcde"),
        ({"InstanceNumber__all__le": 99}, "abcd"),
        ({"ImagePositionPatient[2]": 55}, "e"),
        ({"ImagePositionPatient[1]": 55}, ""),
        ({"SOPInstanceUID": f"{ROOT}.5.1.50"}, "e"),
        ({"InstanceNumber__ne": 77}, "abcd"),
        ({"InstanceNumber__ne": 50.5}, "abcde"),
        ({"InstanceNumber__all__ne": 50.5}, "abcde"),
    ],
)
def test_a_keyword_finds(lake: Lake, session: Any, wanted: dict[str, Any], letters: str) -> None:
    assert found(lake, session, **wanted) == letters


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("KVP=80", "a"),
        ("KVP=80,140", "ae"),
        ("KVP!=80", "bcde"),
        ("KVP>=120", "ae"),
        (" KVP > 120 ", "e"),
        ("KVP=100..130", "a"),
        ("KVP=..100", "a"),
        ("KVP__all>=100", "e"),
        ("KVP__missing=true", "bcd"),
        ("KVP__empty=no", "abde"),
        ("KVP=", "c"),
        ("ImageType__count=2", "c"),
        ("ImageType__count>=3", "abde"),
        ("ImageType__count=3..", "abde"),
        ("ImageType[2]=AXIAL", "abde"),
        ("SeriesDescription~chest", "a"),
        ("SeriesDescription!~chest", "bcde"),
        ("SeriesDescription~chest,small", "abde"),
        ("SeriesDescription__regex=^t.{2,4}ax", "a"),
        ('ImageComments="a\\b, one text"', "c"),
        ("ImageComments~b, one", "c"),
        ("StudyDate=2024-03", "b"),
        ("StudyDate=2023..2024-02", "acd"),
        ("StudyDate>2024-03-15", "e"),
        ("PatientAge<4W", "d"),
        ("0018,0060>=120", "ae"),
        ('0019,xx0E["DICOMLAKE TEST"]>=3', "d"),
        ('0019,xx0C["DICOMLAKE TEST"]=STRASSE', "d"),
        ("ReferencedSeriesSequence[0].SeriesInstanceUID=1.2.4", "c"),
        ("PatientName.given=jorg", "a"),
    ],
)
def test_a_text_finds(lake: Lake, session: Any, text: str, letters: str) -> None:
    assert found(lake, session, text) == letters


@pytest.mark.parametrize(
    "wanted",
    [
        {"InstanceNumber__ge": 50},
        {"InstanceNumber__le": 50},
        {"InstanceNumber": 100},
        {"SOPInstanceUID": f"{ROOT}.5.1.50"},
    ],
)
def test_a_summary_whose_ends_decide_needs_no_headers(
    lake: Lake, session: Any, wanted: dict[str, Any]
) -> None:
    def refuse(series_id: int) -> Any:
        raise AssertionError(f"the headers of {series_id} are not needed")

    assert len(matching(session, parse(**wanted), refuse)) > 0


def test_instances_are_those_that_meet_all_conditions_themselves(lake: Lake, session: Any) -> None:
    by_letter = {NAMES[one.uid]: one.id for one in lake.query()}

    def uids(letter: str, **wanted: Any) -> list[str]:
        return instances_where(session, by_letter[letter], parse(**wanted), lake.headers)

    a, e = f"{ROOT}.1.1", f"{ROOT}.5.1"
    assert uids("a", KVP=80) == [f"{a}.1"]
    assert uids("a", KVP__ge=100, InstanceNumber=1) == []
    assert uids("a", KVP__ne=80) == [f"{a}.2"]
    assert uids("e", InstanceNumber=(98, None), instances=100) == [f"{e}.98", f"{e}.99", f"{e}.100"]
    assert uids("e", InstanceNumber=(98, None), instances=1) == []


def test_columns_hold_values_of_their_kind(lake: Lake, session: Any) -> None:
    by_letter = {NAMES[one.uid]: one.id for one in lake.query()}
    names = ["KVP", "StudyDate", "PatientAge", "ImageType", "ImageType[1]", "PatientName.family", "instances"]
    names += ["ReferencedSeriesSequence.SeriesInstanceUID", "Rows", "InstanceNumber"]
    table = columns(session, [by_letter[letter] for letter in "cabe"], names, lake.headers)
    assert table["KVP"] == [None, (80.0, 120.0), None, 140.0]
    assert table["StudyDate"] == [date(2023, 12, 31), date(2024, 2, 29), date(2024, 3, 15), date(2024, 4, 1)]
    assert table["PatientAge"] == [0.5, None, 62.0, None]
    assert table["ImageType"][0] == ("DERIVED", "PRIMARY")
    assert table["ImageType[1]"] == ["PRIMARY"] * 4
    assert table["PatientName.family"][1:3] == ["Müller", ("Yamada", "やまだ", "山田")]
    assert table["ReferencedSeriesSequence.SeriesInstanceUID"] == ["1.2.4", None, ("1.2.3", "1.2.4"), None]
    assert table["instances"] == [1, 2, 1, 100]
    assert table["Rows"] == [16] * 4
    assert table["InstanceNumber"][3] == tuple(range(1, 101))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"Modalty": "CT"}, "did you mean Modality"),
        ({"modality": "CT"}, "did you mean Modality"),
        ({"verdit": "regular"}, "did you mean verdict"),
        ({"KVP__gte": 1}, "did you mean __gt or __ge"),
        ({"KVP__contain": 1}, "did you mean __contains"),
        ({"SliceThickness": (1, 2, 3)}, "a pair"),
        ({"SliceThickness": ("thin", None)}, "holds numbers"),
        ({"StudyDate__ge": "yesterday"}, "holds dates"),
        ({"StudyTime": (None, "noon")}, "holds times"),
        ({"Modality": None}, "cannot be compared"),
        ({"Modality": {"CT": 1}}, "cannot be compared"),
        ({"Modality": True}, "cannot be compared"),
        ({"Modality__ge": ""}, "__missing=True"),
        ({"KVP": float("nan")}, "NaN"),
        ({"KVP__missing": 1}, "True or False"),
        ({"KVP__ge__le": 1}, "one comparison at a time"),
        ({"KVP__count": 1.5}, "whole number"),
        ({"ReferencedSeriesSequence.Modalty": 1}, "not a keyword"),
        ({"ReferencedSeriesSequence[0]": 1}, "item"),
        ({"Modality.family": "x"}, "only names"),
        ({"SeriesDescription__regex": "("}, "no regular expression"),
        ({"0019,10": 1}, "private element with its creator"),
        ({"shape__max": "x"}, "holds numbers"),
        ({"label": 1}, "label.<name>"),
        ({"verdict__count": 1}, "for elements"),
    ],
)
def test_what_cannot_be_understood_is_named(condition: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message.replace("(", r"\(")):
        parse(**condition)


def test_a_regular_expression_that_duckdb_does_not_know_is_refused(lake: Lake, session: Any) -> None:
    with pytest.raises(QueryError, match="RE2"):
        found(lake, session, SeriesDescription__regex="(?=secret)")


@pytest.mark.parametrize(
    "wanted",
    [
        {"PatientName": "Secret^Person"},
        {"PatientID": "secret"},
        {"StudyDate__ge": "2024-03-15"},
        {"SeriesDescription__contains": "secret"},
        {'0019,xx0C["X"]': "secret"},
        {"label.note": "secret"},
        {"text": "secret"},
        {"clinical.trial.arm": ["secret", "other"]},
    ],
)
def test_what_was_compared_is_shown_only_on_request(wanted: dict[str, Any]) -> None:
    condition = parse(**wanted)
    value = next(iter(wanted.values()))
    asked = value[0] if isinstance(value, list) else value
    assert asked not in str(condition)
    assert asked in condition.words  # type: ignore[union-attr]
    assert asked not in str(parse("Modality=CT", **wanted))


def test_harmless_conditions_are_shown_as_they_were_asked() -> None:
    assert str(
        parse("Modality=CT,PT", "KVP>=100", SliceThickness=(None, 1.5), ImageType__count=(3, None))
    ) == ("Modality=CT,PT and KVP>=100 and SliceThickness=..1.5 and ImageType__count=3..")
    assert str(parse("Modality!=CT")) == "not Modality=CT"
    assert str(parse(PatientName__missing=True)) == "PatientName__missing=True"
    assert str(parse()) == ""


@pytest.mark.parametrize("name", ["TransferSyntaxUID", "0002,0010", "PixelData", "7FE0,0010"])
def test_what_is_not_catalogued_is_refused_rather_than_found_nowhere(name: str) -> None:
    with pytest.raises(QueryError, match="is not catalogued"):
        parse(**{f"{name}__missing": True})
