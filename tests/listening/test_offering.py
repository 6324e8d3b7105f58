"""What a lake answers to queries is what a slow reading of all headers by PS3.4's rules finds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

import dicomlake
from dicomlake.catalog import instances as rows
from dicomlake.catalog import reader
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror import Mirror
from dicomlake.dicom.headers import read_header
from dicomlake.lake import Lake
from dicomlake.listening.offering import Offering
from dicomlake.network.services.finding import FindService
from dicomlake.network.services.levels import Level
from dicomlake.records import Instance, SeriesKey
from dicomlake.storage.local import LocalStorage
from tests.network import questions
from tests.network.questions import LOWER, PATIENT_ROOT, UNIQUE, answers, keys, message
from tests.objects import ROOT, as_bytes, dataset, dicom

_NAMES = ("Müller^Jörg", "MULLER^JORG", "Doe^Jane", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Roe", "")
_CT = "1.2.840.10008.5.1.4.1.1.2"
_LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")


def _objects() -> Iterator[Dataset]:
    """Six patients, two studies each, two series each, of two and three objects."""
    for p, name in enumerate(_NAMES):
        for s in range(2):
            for r in range(2):
                for number in range(1, 4 - r):
                    yield _object(p, name, s, r, number)


def _object(p: int, name: str, s: int, r: int, number: int) -> Dataset:
    series = f"{ROOT}.{p + 1}.{s + 1}.{r + 1}"
    ds = dataset(number, series=series, StudyInstanceUID=f"{ROOT}.{p + 1}.{s + 1}")
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientID, ds.PatientName = f"P{p}", name
    ds.PatientBirthDate = f"19{p + 4}00{p + 1}15"
    ds.StudyDate, ds.StudyTime = f"2024{s + 1:02}{p + 10}", f"{8 + p:02}3000"
    ds.AccessionNumber, ds.StudyID = f"A{p}{s}", str(s)
    ds.StudyDescription = f"{'Head' if s else 'head'} [{p}]"
    ds.ReferringPhysicianName = "Curie^Marie" if p % 2 else "Röntgen^Wilhelm"
    ds.SeriesNumber, ds.SeriesDescription = r + 1, f"series {r}"
    ds.Modality = "MR" if r else "CT"
    if r:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
    if p == 2:
        ds.StationName = f"ROOM{number}"  # differs within a series
        ds.KVP = 80 + 20 * number
    if p == 3 and s == 0:
        ds.OperatorsName = ["Smith^A", "Jones^B"]
    if p == 4:
        del ds.StudyTime
    return ds


@pytest.fixture(scope="module")
def objects() -> list[Dataset]:
    return _Objects(pydicom.dcmread(BytesIO(as_bytes(ds))) for ds in _objects())


class _Objects(list[Dataset]):
    def __repr__(self) -> str:
        return f"<{len(self)} objects>"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, objects: list[Dataset]) -> Iterator[Lake]:
    with dicomlake.open(tmp_path_factory.mktemp("lake") / "lake", create=True) as lake:
        lake.ingest(*map(as_bytes, objects), volumes=False, progress=False)
        yield lake


def offering_of(lake: Lake) -> Offering:
    return Offering(lake._catalog, lake._mirror, lake._storage)


@pytest.fixture(scope="module")
def service(lake: Lake) -> FindService:
    return FindService(offering_of(lake))


def check(service: FindService, objects: Sequence[Dataset], asked: Dataset) -> list[Dataset]:
    """The answers, each once, and none else than the slow reading finds."""
    found = answers(service.answer(message(asked, PATIENT_ROOT)))
    names = questions.names_of(found, asked.QueryRetrieveLevel)
    assert len(set(names)) == len(names)
    assert set(names) == questions.expected(objects, asked)
    return found


_QUERIES: list[tuple[str, dict[str, Any]]] = [
    (level, wanted)
    for level in _LEVELS
    for wanted in (
        {},
        {"PatientName": "muller*"},
        {"PatientName": "MÜLLER^JÖRG"},
        {"PatientName": "山田*"},
        {"PatientName": "?oe*"},
        {"PatientID": "P1"},
        {"PatientID": "p1"},
        {"PatientID": "P?"},
        {"StudyDate": "20240110-20240112"},
        {"StudyDate": "-20240112"},
        {"StudyDate": "20240211-", "Modality": "MR"},
        {"StudyTime": "093000-103000"},
        {"StudyDescription": "Head*"},
        {"StudyDescription": "*[[]*"},
        {"StudyDescription": "*[2]"},
        {"AccessionNumber": "A?1", "ReferringPhysicianName": "rontgen*"},
        {"ModalitiesInStudy": "MR", "SeriesNumber": "1"},
        {"ModalitiesInStudy": "CT\\PT"},
        {"SOPClassesInStudy": str(MRImageStorage), "Modality": "CT"},
        {"NumberOfStudyRelatedInstances": "5"},
        {"NumberOfSeriesRelatedInstances": "2", "Modality": "MR"},
        {"StationName": "ROOM2"},
        {"StationName": "*"},
        {"KVP": "100.0"},
        {"InstanceNumber": "03"},
        {"OperatorsName": "jones*"},
        {"Rows": 16, "PatientBirthDate": "19400101-19601231"},
        {"StudyInstanceUID": [f"{ROOT}.1.1", f"{ROOT}.3.2", "1.2.3"]},
        {"SeriesInstanceUID": f"{ROOT}.2.1.2"},
        {"SOPInstanceUID": f"{ROOT}.2.1.2.1"},
        {"BodyPartExamined": "CHEST"},
        {"PatientComments": ""},
    )
]


@pytest.mark.parametrize(("level", "wanted"), _QUERIES, ids=[f"{n}-{q[0]}" for n, q in enumerate(_QUERIES)])
def test_matches_are_those_of_a_slow_reading(
    service: FindService, objects: list[Dataset], level: str, wanted: dict[str, Any]
) -> None:
    unique = dict.fromkeys(UNIQUE[level], "")
    check(service, objects, keys(level, "ISO_IR 192", **unique | wanted))


_WORDS = st.sampled_from(
    ["*", "?", "P", "1", "3", "m", "Mü", "Doe", "^", "Head", "[2]", "ROOM", "A", "0", ""]
)
_PATTERNS = st.lists(_WORDS, max_size=4).map("".join)
_DAYS = st.dates(date(1900, 1, 1)).map(lambda d: f"{d:%Y%m%d}")
_DATES = _DAYS | st.sampled_from(["20240110", "20240213", "20240112"])
_RANGES = st.tuples(_DATES, st.sampled_from(["", "-"]), _DATES | st.just("")).map(
    lambda t: t[0] + t[1] + (t[2] if t[1] else "")
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    level=st.sampled_from(_LEVELS),
    texts=st.dictionaries(
        st.sampled_from(["PatientID", "PatientName", "StudyDescription", "StationName", "AccessionNumber"]),
        _PATTERNS,
        max_size=2,
    ),
    dates=st.dictionaries(st.sampled_from(["StudyDate", "PatientBirthDate"]), _RANGES, max_size=1),
    modality=st.sampled_from(["", "CT", "M*", "MR\\CT"]),
)
def test_any_question_is_answered_as_by_a_slow_reading(
    service: FindService,
    objects: list[Dataset],
    level: str,
    texts: dict[str, str],
    dates: dict[str, str],
    modality: str,
) -> None:
    unique = dict.fromkeys(UNIQUE[level], "")
    asked = keys(level, "ISO_IR 192", **unique | texts | dates | {"ModalitiesInStudy": modality.split("\\")})
    check(service, objects, asked)


_SHOWN = {
    "PATIENT": (
        "PatientName",
        "PatientBirthDate",
        "NumberOfPatientRelatedStudies",
        "NumberOfPatientRelatedInstances",
    ),
    "STUDY": (
        *("PatientName", "StudyDate", "StudyTime", "ReferringPhysicianName", "ModalitiesInStudy"),
        *(
            "SOPClassesInStudy",
            "NumberOfStudyRelatedSeries",
            "NumberOfStudyRelatedInstances",
            "StudyDescription",
        ),
        *("NumberOfPatientRelatedSeries",),
    ),
    "SERIES": (
        *("Modality", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances", "ImageType"),
        *("OperatorsName", "PixelSpacing", "Rows", "FrameOfReferenceUID", "ModalitiesInStudy", "PatientName"),
    ),
    "IMAGE": (
        *("InstanceNumber", "SOPClassUID", "StationName", "KVP", "ImagePositionPatient", "OperatorsName"),
        *("Rows", "ImageType", "NumberOfSeriesRelatedInstances", "PatientName", "BitsAllocated"),
    ),
}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("level", _LEVELS)
def test_values_of_answers_are_those_of_the_objects(
    service: FindService, objects: list[Dataset], level: str, syntax: Any
) -> None:
    wanted = {name: "" if name not in ("Rows", "BitsAllocated") else None for name in _SHOWN[level]}
    asked = keys(level, **dict.fromkeys(UNIQUE[level], "") | wanted)
    found = answers(service.answer(message(asked, PATIENT_ROOT, syntax=syntax)), syntax)
    entities = questions.entities(objects, level)
    assert len(found) == len(entities)
    for ds, name in zip(found, questions.names_of(found, level), strict=True):
        for keyword in _SHOWN[level]:
            there = [one for one in questions.held(objects, entities[name], keyword) if any(one)]
            shown = questions.texts(ds, keyword)
            assert keyword in ds
            assert shown in there if there else not any(shown), keyword


def test_an_answer_shows_the_value_that_was_asked_for(service: FindService) -> None:
    asked = keys("SERIES", SeriesInstanceUID="", StationName="ROOM3", PatientID="P2")
    found = answers(service.answer(message(asked)))
    assert [ds.StationName for ds in found] == ["ROOM3", "ROOM3"][: len(found)]
    assert found


def test_unique_keys_of_lower_levels_narrow_and_are_not_shown(service: FindService) -> None:
    asked = keys("STUDY", StudyInstanceUID="", SeriesInstanceUID=f"{ROOT}.2.1.2")
    (found,) = answers(service.answer(message(asked)))
    assert found.StudyInstanceUID == f"{ROOT}.2.1"
    assert found.SeriesInstanceUID == ""
    assert LOWER["STUDY"] == "SeriesInstanceUID"


def test_real_headers_are_found_by_their_own_values(real_data: Path, tmp_path: Path) -> None:
    """Each value of some common elements, asked for at each level, finds what a slow reading finds."""
    paths = sorted(path for path in real_data.rglob("*") if path.is_file())[::9][:60]
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*paths, volumes=False, progress=False)
        kept = [lake._storage.get(one.key) for one in _current(lake)]
        objects = [pydicom.dcmread(BytesIO(data), stop_before_pixels=True) for data in kept]
        service = FindService(offering_of(lake))
        for level in _LEVELS:
            for keyword in ("PatientID", "Modality", "StudyDate", "SeriesNumber", "Manufacturer"):
                for value in _values(objects, keyword):
                    asked = keys(level, "ISO_IR 192", **dict.fromkeys(UNIQUE[level], "") | {keyword: value})
                    found = answers(service.answer(message(asked, PATIENT_ROOT)))
                    holders = {
                        name
                        for name, some in questions.entities(objects, level).items()
                        if any(value in map(str.strip, questions.texts(ds, keyword)) for ds in some)
                    }
                    assert set(questions.names_of(found, level)) == holders, (level, keyword)


def _values(objects: Sequence[Dataset], keyword: str) -> list[str]:
    """Some values that an element has, but those that would be patterns or no date."""
    found = sorted({text.strip() for ds in objects for text in questions.texts(ds, keyword)})[:8]
    return [t for t in found if t and not set(t) & set("*?\\") and (keyword != "StudyDate" or t[:2] == "20")]


def _current(lake: Lake) -> list[Instance]:
    with lake._catalog.read() as view:
        return [one for one in reader.all_instances(view) if not one.conflict]


# ---- retrieval


@pytest.mark.parametrize(
    ("uids", "test"),
    [
        ({"PatientID": ["P1"]}, lambda ds: ds.PatientID == "P1"),
        (
            {"StudyInstanceUID": [f"{ROOT}.1.1", f"{ROOT}.2.1"]},
            lambda ds: ds.StudyInstanceUID[-3:] in ("1.1", "2.1"),
        ),
        (
            {"PatientID": ["P0"], "StudyInstanceUID": [f"{ROOT}.1.1", f"{ROOT}.2.1"]},
            lambda ds: ds.StudyInstanceUID == f"{ROOT}.1.1",
        ),
        ({"SeriesInstanceUID": [f"{ROOT}.1.1.2"]}, lambda ds: ds.SeriesInstanceUID == f"{ROOT}.1.1.2"),
        (
            {"StudyInstanceUID": [f"{ROOT}.1.1"], "SOPInstanceUID": [f"{ROOT}.1.1.2.1", f"{ROOT}.2.1.2.1"]},
            lambda ds: ds.SOPInstanceUID == f"{ROOT}.1.1.2.1",
        ),
        ({"StudyInstanceUID": ["1.2.3"]}, lambda _ds: False),
    ],
)
def test_objects_below_unique_keys_come_byte_for_byte(
    lake: Lake, objects: list[Dataset], uids: dict[str, list[str]], test: Callable[[Dataset], bool]
) -> None:
    found: dict[str, str] = {}
    for one in offering_of(lake).instances(uids):
        with one.open() as readable:
            data = readable.read()
            assert readable.size == one.size
            assert read_header(data).transfer_syntax == one.transfer_syntax
        found[one.sop_instance_uid] = hashlib.sha256(data).hexdigest()
    expected = [ds for ds in objects if test(ds)]
    assert found == {str(ds.SOPInstanceUID): hashlib.sha256(as_bytes(ds)).hexdigest() for ds in expected}


def test_an_object_is_retrieved_before_its_series_settles(tmp_path: Path) -> None:
    storage, data, key = LocalStorage(tmp_path), as_bytes(dataset(1)), SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1")
    uid, digest = f"{ROOT}.1.1.1", hashlib.sha256(data).hexdigest()
    one = Instance(uid, _CT, key, str(ExplicitVRLittleEndian), "a.dcm", len(data), digest, digest)
    with closing(storage), closing(Catalog.open(tmp_path / "catalog.db")) as catalog:
        storage.publish([storage.stage("a.dcm", data)])
        with catalog.change("receive") as (connection, v):
            rows.add(connection, v, rows.drafted([one]))
        with closing(Mirror(catalog, tmp_path / "mirror")) as mirror:
            offering = Offering(catalog, mirror, storage)
            (found,) = offering.instances({"StudyInstanceUID": [key.study_uid]})
            assert found.sop_instance_uid == uid
            assert list(offering.match("STUDY", {}, ["StudyInstanceUID"])) == []


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_a_series_that_grows_while_a_query_is_answered_is_answered_once(tmp_path: Path, level: Level) -> None:
    """A settled series gets a new id with its late slice; found under the old one, it stays an answer."""
    stacks = [[dicom(n, series=f"{ROOT}.{place}.1") for n in (1, 2)] for place in range(1, 121)]
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*(data for stack in stacks for data in stack), volumes=False, progress=False)
        name = UNIQUE[level][-1]
        rows = offering_of(lake).match(level, {}, [name])
        found = [next(rows)[name][0][0]]
        late = [dicom(3, series=f"{ROOT}.{place}.1") for place in (100, 110, 119)]
        lake.ingest(*late, volumes=False, progress=False)
        answers(FindService(offering_of(lake)).answer(message(keys("STUDY", StudyInstanceUID=""))))
        found += [row[name][0][0] for row in rows]
        assert len(found) == len(set(found))
        assert len(found) == (240 if level == "IMAGE" else 120)


def test_a_query_holds_no_view_of_the_catalog_between_two_answers(lake: Lake) -> None:
    """An open view would keep the journal from being folded in for as long as a peer reads slowly."""
    rows = offering_of(lake).match("IMAGE", {}, ["SOPInstanceUID"])
    next(rows)
    assert lake._catalog.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    rows.close()
