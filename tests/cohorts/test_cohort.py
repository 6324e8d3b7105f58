"""A cohort: a sequence that combines, stays the series that it was, and says what it is."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

import dicomlake
from dicomlake.catalog.query import to_json
from dicomlake.datasets import trial
from dicomlake.errors import CatalogError, QueryError
from dicomlake.lake import Lake
from tests.objects import ROOT, dicom, series


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trial")
    trial.write(made, patients=4)
    return made


@pytest.fixture(scope="module")
def headers(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*.dcm"))]


@pytest.fixture(scope="module")
def lake(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with dicomlake.open(tmp_path_factory.mktemp("lake") / "lake", create=True) as lake:
        lake.ingest(folder.glob("*.dcm"))
        lake.import_clinical("trial", folder / trial.CLINICAL)
        yield lake


def uids(headers: list[pydicom.Dataset], **wanted: str) -> set[str]:
    return {str(ds.SeriesInstanceUID) for ds in headers if all(ds.get(k) == v for k, v in wanted.items())}


def test_cohorts_combine_as_sets_do(lake: Lake, headers: list[pydicom.Dataset]) -> None:
    ct, first = lake.query(Modality="CT"), lake.query(ClinicalTrialTimePointID="V1")
    a, b = uids(headers, Modality="CT"), uids(headers, ClinicalTrialTimePointID="V1")
    every = uids(headers)
    for cohort, wanted in (
        (ct & first, a & b),
        (ct | first, a | b),
        (ct - first, a - b),
        (~ct, every - a),
        (~(ct | first), every - (a | b)),
        (ct.where(ClinicalTrialTimePointID="V1"), a & b),
        (ct[:3] | first[:2], {one.uid for one in [*ct[:3], *first[:2]]}),
    ):
        assert {one.uid for one in cohort} == wanted
        assert len(cohort) == len(wanted)
        found = lake.sql(f"select SeriesInstanceUID from series where series_id in ({cohort.sql})").rows()
        assert {uid for (uid,) in found} == wanted
        if cohort.expression is not None:
            again = lake.requery(json.loads(to_json(cohort.expression)))
            assert {one.uid for one in again} == wanted


def test_the_order_is_by_patient_then_time(lake: Lake) -> None:
    rows = [one.facts for one in lake.query()]
    keys = [(r["PatientID"], r["StudyDate"], r["StudyInstanceUID"], r["SeriesNumber"]) for r in rows]
    assert keys == sorted(keys)
    assert [one.uid for one in lake.query()[5:9]] == [r["SeriesInstanceUID"] for r in rows[5:9]]
    assert lake.query()[-1].uid == rows[-1]["SeriesInstanceUID"]


def test_tables_of_each_level_count_what_is_there(lake: Lake, headers: list[pydicom.Dataset]) -> None:
    ct = lake.query(Modality="CT")
    of_ct = [ds for ds in headers if ds.Modality == "CT"]
    by_series = ct.table("KVP", "ConvolutionKernel", "clinical.trial.arm").set_index("SeriesInstanceUID")
    for ds in of_ct:
        assert by_series.loc[str(ds.SeriesInstanceUID), "KVP"] == float(ds.KVP)
        assert by_series.loc[str(ds.SeriesInstanceUID), "ConvolutionKernel"] == ds.ConvolutionKernel
    patients = ct.table(level="patient").set_index("PatientID")
    assert set(patients.index) == {ds.PatientID for ds in of_ct}
    for name, row in patients.iterrows():
        own = [ds for ds in of_ct if name == ds.PatientID]
        assert (row["studies"], row["series"], row["instances"]) == (
            len({ds.StudyInstanceUID for ds in own}),
            len({ds.SeriesInstanceUID for ds in own}),
            len(own),
        )
    assert len(ct.table(level="study")) == len({ds.StudyInstanceUID for ds in of_ct})
    volumes = ct.table("verdict", "KVP", level="volume")
    assert set(volumes["verdict"]) == {"regular"}
    assert len(volumes) == len(ct)
    instances = ct.table("SliceLocation", level="instance")
    wanted = {str(ds.SOPInstanceUID): str(ds.SliceLocation) for ds in of_ct}
    found = dict(zip(instances["SOPInstanceUID"], instances["SliceLocation"], strict=True))
    assert {uid: float(text) for uid, text in found.items()} == {u: float(t) for u, t in wanted.items()}
    with pytest.raises(QueryError, match="a level is one of"):
        ct.table(level="planet")  # type: ignore[arg-type]


def test_instances_meet_all_conditions_by_themselves(lake: Lake, headers: list[pydicom.Dataset]) -> None:
    found = lake.query(Modality="CT").instances(InstanceNumber=3, SliceLocation__lt=0)
    wanted = {
        str(ds.SOPInstanceUID)
        for ds in headers
        if ds.Modality == "CT" and ds.InstanceNumber == 3 and ds.SliceLocation < 0
    }
    assert set(found["SOPInstanceUID"]) == wanted
    assert wanted


def test_the_words_of_a_report_find_all_series_of_its_study(
    lake: Lake, headers: list[pydicom.Dataset]
) -> None:
    def words(ds: pydicom.Dataset) -> str:
        return " ".join(item.TextValue for item in ds.get("ContentSequence", []) if "TextValue" in item)

    studies = {ds.StudyInstanceUID for ds in headers if "partial response" in words(ds).lower()}
    wanted = {str(ds.SeriesInstanceUID) for ds in headers if ds.StudyInstanceUID in studies}
    assert {one.uid for one in lake.query(text='"partial response"')} == wanted
    assert wanted


def test_labels_of_a_cohort_are_found_and_are_no_longer_once_removed(lake: Lake) -> None:
    pet = lake.query(Modality="PT")
    pet.set_label("reading", "second", note="for the audit", who="a reader")
    assert [one.uid for one in lake.query(label__reading="second")] == [one.uid for one in pet]
    table = lake.labels(name="reading")
    assert (len(table), set(table["who"])) == (len(pet), {"a reader"})
    lake.remove_label(pet, "reading", who="another")
    assert len(lake.query(label__reading="second")) == 0
    assert lake.label_history(pet[0].uid, "reading")["who"].tolist() == ["a reader", "another"]


def test_a_ct_and_a_later_pet_within_thirty_days(lake: Lake) -> None:
    pairs = lake.query(Modality="CT").followed_by(lake.query(Modality="PT"), within_days=30)
    wanted = 0
    for ct in trial.made_of(4):
        for pet in trial.made_of(4):
            if pet.pet_date and pet.patient_id == ct.patient_id:
                days = (_day(pet.pet_date) - _day(ct.study_date)).days
                wanted += 0 < days <= 30
    assert len(pairs) == wanted > 0
    assert {one.facts["Modality"] for one in pairs.first} == {"CT"}
    assert {one.facts["Modality"] for one in pairs.second} == {"PT"}


def _day(text: str) -> object:
    from datetime import datetime

    return datetime.strptime(text, "%Y%m%d")


def test_the_first_study_of_each_patient_and_the_nearest_to_a_date(lake: Lake) -> None:
    ct = lake.query(Modality="CT")
    firsts = {made.patient_id: made.series_uid for made in reversed(trial.made_of(4))}
    assert {one.uid for one in ct.per_patient("first")} == set(firsts.values())
    dates = {made.patient_id: made.study_date for made in trial.made_of(4) if made.visit == 1}
    seconds = {made.series_uid for made in trial.made_of(4) if made.visit == 1}
    assert {one.uid for one in ct.per_patient(dicomlake.nearest(dates))} == seconds


def test_protocols_find_the_exams_that_deviate(lake: Lake, headers: list[pydicom.Dataset]) -> None:
    ct = lake.query(Modality="CT")
    found = ct.protocols(by=["KVP"], rare=0.5)
    values = [float(one.header()["KVP"][0]) for one in ct]
    usual = max(set(values), key=values.count)
    assert "kV" in found.dominant["CT"] or f"{usual:g}" in found.dominant["CT"]
    assert set(found.outliers["position"]) == {i for i, v in enumerate(values) if v != usual}


def test_a_cohort_stays_its_series_when_instances_come_late(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(3), series(2, f"{ROOT}.1.2"))
        cohort, chosen = lake.query(), lake.query()[::-1]
        lake.ingest(dicom(9), series(2, f"{ROOT}.1.3"))
        assert [one.uid for one in cohort] == [f"{ROOT}.1.1", f"{ROOT}.1.2"]
        assert [one.uid for one in chosen] == [f"{ROOT}.1.2", f"{ROOT}.1.1"]
        assert cohort.table("InstanceNumber")["InstanceNumber"].tolist() == [(1, 2, 3, 9), (1, 2)]
        assert cohort[0].facts["instances"] == 4
        lake.rebuild(progress=False)
        with pytest.raises(CatalogError, match="make it again"):
            _ = cohort.ids


def test_what_a_cohort_prints_names_no_patient(lake: Lake, headers: list[pydicom.Dataset]) -> None:
    cohort = lake.query(PatientID=headers[0].PatientID, Modality="CT")
    words = [repr(cohort), cohort._repr_html_(), str(cohort.explain()), cohort.explain()._repr_html_()]
    words += [str(cohort.describe()), cohort.describe()._repr_html_(), repr(cohort.protocols())]
    secrets = {str(headers[0].PatientID), str(headers[0].PatientName), str(headers[0].PatientBirthDate)}
    assert [text for text in words if any(secret in text for secret in secrets)] == []


def test_cohorts_of_two_lakes_do_not_combine(lake: Lake, tmp_path: Path) -> None:
    with (
        dicomlake.open(tmp_path / "other", create=True) as other,
        pytest.raises(QueryError, match="two lakes"),
    ):
        _ = lake.query() & other.query()


def test_a_cohort_without_conditions_has_nothing_to_explain(lake: Lake) -> None:
    with pytest.raises(QueryError, match="chosen one by one"):
        lake.query()[:2].explain()


# --- found by adversaries ------------------------------------------------------------------------------


def test_instances_that_come_while_a_query_is_answered_lose_no_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(2))
        matching = type(lake).matching

        def late(self: Lake, expression: object) -> object:
            found = matching(self, expression)  # type: ignore[arg-type]
            monkeypatch.undo()
            lake.ingest(dicom(9))
            return found

        monkeypatch.setattr(type(lake), "matching", late)
        cohort = lake.query(Modality="CT")
        assert [one.uid for one in cohort] == [f"{ROOT}.1.1"]
        frozen = cohort.freeze("all of it")
        assert [member.instances for member in frozen.row.members] == [3]


def test_a_series_is_the_same_one_after_a_rebuild_and_in_another_process(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(2, f"{ROOT}.1.2", SeriesDescription="two"))
        lake.ingest(series(2, f"{ROOT}.1.1", SeriesDescription="one"))
        held = lake.query(SeriesDescription="two")[0]
        travelled = pickle.dumps(held)
        lake.ingest(dicom(7, series=f"{ROOT}.1.2", SeriesDescription="two"))
        assert held.header(f"{ROOT}.1.2.7")["InstanceNumber"] == ("7",)
        lake.rebuild(progress=False)
        for one in (held, pickle.loads(travelled)):
            assert one.uid == f"{ROOT}.1.2"
            assert one.header()["SeriesDescription"] == ("two",)
        lake.set_label(held, "quality", "bad")
        assert [one.uid for one in lake.query(label__quality="bad")] == [f"{ROOT}.1.2"]


def test_instances_are_asked_for_what_they_lack(tmp_path: Path) -> None:
    first, second = f"{ROOT}.1.1", f"{ROOT}.1.2"
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(1, EchoTime=1), dicom(2), dicom(1, series=second, EchoTime=5))
        every = lake.query()

        def found(**wanted: object) -> list[str]:
            return every.instances(**wanted)["SOPInstanceUID"].tolist()

        assert found(EchoTime__missing=True) == [f"{first}.2"]
        assert found(EchoTime__ne=1) == [f"{first}.2", f"{second}.1"]
        assert found(EchoTime__all__ge=1) == [f"{first}.1", f"{second}.1"]


def test_facets_of_a_small_lake_follow_what_is_selected(lake: Lake, headers: list[pydicom.Dataset]) -> None:
    found = lake.facets("Modality", "KVP", selected={"Modality": ["CT"], "StudyDate": "2023"})
    wanted: dict[str, set[str]] = {}
    for ds in headers:
        if ds.StudyDate.startswith("2023"):
            wanted.setdefault(ds.Modality, set()).add(str(ds.SeriesInstanceUID))
    counts = dict(zip(found["Modality"].values, found["Modality"].counts.tolist(), strict=True))
    assert counts == {name: len(uids) for name, uids in wanted.items()}
    assert int(found["KVP"].counts.sum()) == len(wanted["CT"])
    among = lake.facets("Modality", among=lake.query(Modality="PT"))["Modality"]
    assert among.values == ("PT",)
    days = lake.facets("Modality", selected={"StudyDate": "2023-06"})["Modality"]
    assert int(days.counts.sum()) == len(lake.query(StudyDate="2023-06"))


def test_a_clinical_name_that_there_is_not_is_refused(lake: Lake) -> None:
    for path in ("clinical.trial.armm", "clinical.trail.arm"):
        for ask in (lake.query, lake.query().where, lake.query().instances):
            with pytest.raises(QueryError, match=r"there is no clinical table|has no column"):
                ask(**{path: "A"})
        with pytest.raises(QueryError, match=r"there is no clinical table|has no column"):
            lake.query().table(path)


def test_dates_are_asked_as_dicom_asks_them(lake: Lake, headers: list[pydicom.Dataset]) -> None:
    for written, low, high in (
        ("20230401-20230630", "20230401", "20230630"),
        ("20230601-", "20230601", "99999999"),
        ("-20230601", "00000000", "20230601"),
    ):
        wanted = {str(ds.SeriesInstanceUID) for ds in headers if low <= ds.StudyDate <= high}
        assert {one.uid for one in lake.query(StudyDate=written)} == wanted
        assert wanted
    assert len(lake.query(StudyDate="-")) == 0


def test_clinical_rows_are_matched_again_when_whoever_took_objects_in_ended_before(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(1, AccessionNumber="one"))
        rows = [{"AccessionNumber": "one", "x": 1}, {"AccessionNumber": "two", "x": 2}]
        lake.import_clinical("reads", rows, on="AccessionNumber")
        later = dicom(1, series=f"{ROOT}.2.1", AccessionNumber="two")
        with pytest.MonkeyPatch.context() as patch:  # the process ends before the last step of an ingest
            patch.setattr("dicomlake.lake.lake.rematch", lambda _catalog: 0)
            lake.ingest(later)
        assert len(lake.query(**{"clinical.reads.x": 2})) == 0
    with dicomlake.open(tmp_path / "lake") as lake:
        assert [one.uid for one in lake.query(**{"clinical.reads.x": 2})] == [f"{ROOT}.2.1"]
