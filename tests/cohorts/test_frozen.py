"""A frozen cohort stays what it was: it re-opens to the same, or says in which way it cannot."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import dicomlake
from dicomlake.cohorts.frozen import FrozenCohort
from dicomlake.errors import CohortChanged, QueryError
from dicomlake.lake import Lake
from dicomlake.records import SeriesKey
from tests.objects import ROOT, dicom, series

KEYS = [SeriesKey(f"{ROOT}.1", f"{ROOT}.1.{n}") for n in (1, 2, 3)]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        for key, count in zip(KEYS, (3, 4, 5), strict=True):
            lake.ingest(*series(count, key.series_uid, Modality="MR", EchoTime=count * 10))
        yield lake


def rewritten(lake: Lake, number: int, data: bytes) -> None:
    """An original of the first series replaced behind the lake's back, and the catalog made again."""
    name = f"{KEYS[0].series_uid}.{number}.dcm"
    path = lake.path / "studies" / KEYS[0].study_uid / KEYS[0].series_uid / "originals" / name
    assert path.read_bytes() != data
    path.chmod(0o644)
    path.write_bytes(data)
    lake.rebuild(progress=False)


def test_what_was_frozen_opens_again_in_the_same_order(lake: Lake) -> None:
    cohort = lake.query(Modality="MR")
    frozen = cohort.freeze("all of them", who="the author")
    assert [one.key for one in frozen.cohort()] == [one.key for one in cohort] == KEYS
    assert (len(frozen), frozen.row.who, frozen.row.program) == (3, "the author", dicomlake.__version__)
    assert not frozen.diff()
    assert lake.cohort("all of them").row == frozen.row
    (listed,) = lake.cohorts().to_dict("records")
    assert (listed["name"], listed["series"], listed["who"]) == ("all of them", 3, "the author")


def test_a_name_is_taken_once_and_can_be_written_everywhere(lake: Lake) -> None:
    lake.query(EchoTime=30).freeze("one")
    with pytest.raises(QueryError, match="never changes"):
        lake.query().freeze("one")
    assert len(lake.cohort("one")) == 1
    for name in ("", "../one", "a" * 101, "x\n"):
        with pytest.raises(QueryError, match="letters, digits"):
            lake.query().freeze(name)
    with pytest.raises(QueryError, match=re.escape("lake.cohorts()")):
        lake.cohort("another")


def test_series_that_come_later_are_added_and_not_members(lake: Lake) -> None:
    frozen = lake.query(Modality="MR", EchoTime=(None, 45)).freeze("early")
    lake.ingest(dicom(1, series=f"{ROOT}.1.7", Modality="MR", EchoTime=20))
    lake.ingest(dicom(1, series=f"{ROOT}.1.8", Modality="MR", EchoTime=90))
    diff = frozen.diff()
    assert [key.series_uid for key in diff.added] == [f"{ROOT}.1.7"]
    assert (diff.same, diff.counts()) == (2, {"added": 1})
    assert [one.key for one in frozen.cohort()] == KEYS[:2]  # strict: no member changed


def test_late_instances_are_told_and_refused_unless_asked_for(lake: Lake) -> None:
    frozen = lake.query(Modality="MR").freeze("late")
    lake.ingest(dicom(9, series=KEYS[0].series_uid, Modality="MR", EchoTime=30))
    diff = frozen.diff()
    assert diff.counts() == {"instances": 1}
    assert (diff.changes[0].key, diff.changes[0].detail) == (KEYS[0], "3 then, 4 now")
    with pytest.raises(CohortChanged, match="1 instances"):
        frozen.cohort()
    assert [one.key for one in frozen.cohort(strict=False)] == KEYS


def test_a_changed_element_is_a_changed_header(lake: Lake) -> None:
    frozen = lake.query(Modality="MR").freeze("changed")
    rewritten(lake, 2, dicom(2, Modality="MR", EchoTime=30, KVP=70))
    diff = frozen.diff()
    assert [(change.key, change.what) for change in diff.changes] == [(KEYS[0], "header")]
    assert diff.same == 2


def test_a_changed_voxel_is_changed_pixels(lake: Lake) -> None:
    frozen = lake.query(Modality="MR").freeze("pixels")
    plain = dicom(2, Modality="MR", EchoTime=30)
    rewritten(lake, 2, plain[:-1] + bytes([plain[-1] ^ 1]))
    assert [(change.key, change.what) for change in frozen.diff().changes] == [(KEYS[0], "pixels")]


def test_both_at_once_are_told_both(lake: Lake) -> None:
    frozen = lake.query(Modality="MR").freeze("both")
    plain = dicom(2, Modality="MR", EchoTime=30, KVP=70)
    rewritten(lake, 2, plain[:-1] + bytes([plain[-1] ^ 1]))
    assert [change.what for change in frozen.diff().changes] == ["header", "pixels"]


def test_a_rebuild_of_volumes_and_catalog_changes_nothing(lake: Lake) -> None:
    frozen = lake.query(Modality="MR").freeze("kept")
    lake.rebuild(volumes_only=True, progress=False)
    assert not lake.cohort("kept").diff()
    lake.rebuild(progress=False)
    assert lake.cohort("kept").row == frozen.row
    assert not lake.cohort("kept").diff()


def test_a_cohort_survives_the_loss_of_the_catalog(lake: Lake) -> None:
    frozen = lake.query(Modality="MR").freeze("kept")
    lake.close()
    (lake.path / "catalog.sqlite").write_bytes(b"nothing of use")
    dicomlake.rebuild(lake.path, progress=False)
    with dicomlake.open(lake.path) as again:
        assert again.cohort("kept").row == frozen.row
        assert not again.cohort("kept").diff()


def test_series_that_are_gone_are_named(lake: Lake) -> None:
    frozen = lake.query(Modality="MR").freeze("before")
    shutil.rmtree(lake.path / "studies" / KEYS[1].study_uid / KEYS[1].series_uid)
    lake.rebuild(progress=False)
    diff = frozen.diff()
    assert (diff.gone, diff.same) == ([KEYS[1]], 2)
    assert "1 gone" in str(diff)
    table = diff.table()
    assert table[["what", "SeriesInstanceUID"]].values.tolist() == [["gone", KEYS[1].series_uid]]


def test_two_frozen_cohorts_are_compared(lake: Lake) -> None:
    a, b = lake.query(EchoTime=[30, 40]).freeze("a"), lake.query(EchoTime=[40, 50]).freeze("b")
    diff = a.diff(b)
    assert (diff.added, diff.gone, diff.same) == ([KEYS[2]], [KEYS[0]], 1)


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_another_lake_with_the_same_objects_opens_what_was_exported(
    lake: Lake, tmp_path: Path, suffix: str
) -> None:
    frozen = lake.query(Modality="MR", EchoTime=(None, 45)).freeze("shared")
    file = frozen.export(tmp_path / f"shared{suffix}")
    with dicomlake.open(tmp_path / "other", create=True) as other:
        for key, count in zip(KEYS[:2], (3, 4), strict=True):
            other.ingest(*series(count, key.series_uid, Modality="MR", EchoTime=count * 10))
        taken = other.import_cohort(file)
        assert taken.digest == frozen.digest
        assert not taken.diff()
        assert [one.key for one in taken.cohort()] == KEYS[:2]
        assert other.import_cohort(file).row == taken.row  # what is there already is not there twice
        assert len(other.cohorts()) == 1
        other.query(EchoTime=30).freeze("mine")
        with pytest.raises(QueryError, match="already"):
            other.import_cohort(file, name="mine")
        assert other.import_cohort(file, name="shared again").row.members == frozen.row.members
    with dicomlake.open(tmp_path / "empty", create=True) as empty:
        assert empty.import_cohort(file).diff().gone == KEYS[:2]


def test_an_export_that_was_edited_is_refused(lake: Lake, tmp_path: Path) -> None:
    file = lake.query().freeze("a").export(tmp_path / "a.json")
    body = json.loads(file.read_text())
    body["members"][0]["instances"] = 2
    file.write_text(json.dumps(body))
    with pytest.raises(QueryError, match="was changed"):
        lake.import_cohort(file, name="b")
    for text in ("{}", "[]", "no JSON"):
        file.write_text(text)
        with pytest.raises(QueryError, match="is no frozen cohort"):
            lake.import_cohort(file)
    with pytest.raises(QueryError, match=r"\.json or \.parquet"):
        lake.cohort("a").export(tmp_path / "a.csv")
    with pytest.raises(QueryError, match="cannot be read"):
        lake.import_cohort(tmp_path / "none.json")


def test_an_empty_cohort_and_chosen_series_can_be_frozen(lake: Lake, tmp_path: Path) -> None:
    nothing = lake.query(Modality="PT").freeze("nothing")
    assert (len(nothing), len(nothing.cohort())) == (0, 0)
    for suffix in (".json", ".parquet"):
        name = f"nothing{suffix}"
        assert lake.import_cohort(nothing.export(tmp_path / name), name=name).row.members == ()
    chosen = lake.query()[1:].freeze("chosen")
    assert chosen.row.query is None
    assert [one.key for one in chosen.cohort()] == KEYS[1:]
    lake.ingest(dicom(1, series=f"{ROOT}.1.9", Modality="MR"))
    assert not chosen.diff()


def entries(bibtex: str) -> list[dict[str, str]]:
    """The fields of each entry, read by a small parser of its own: balanced braces only."""
    found = []
    for body in re.findall(r"@misc\{(.*?)\n\}", bibtex, re.DOTALL):
        assert body.count("{") == body.count("}")
        found.append(
            {m[1]: m[2].strip("{}") for m in re.finditer(r"^  (\w+) = \{(.*)\},$", body, re.MULTILINE)}
        )
    return found


def test_a_citation_names_the_cohort_its_collections_and_the_program(lake: Lake) -> None:
    trial = {"ClinicalTrialProtocolID": "TRIAL-1", "ClinicalTrialProtocolName": "Lungs & more"}
    lake.ingest(dicom(1, series=f"{ROOT}.1.9", Modality="MR", **trial))
    frozen: FrozenCohort = lake.query().freeze("cited", who="A. Author")
    cohort, collection, program = entries(frozen.cite())
    assert (cohort["title"], cohort["author"]) == ("Imaging cohort cited", "A. Author")
    assert frozen.digest in cohort["note"]
    assert collection == {"title": r"Lungs \& more", "note": "1 series of the cohort"}
    assert dicomlake.__version__ in program["title"]
    ris = frozen.cite("ris")
    assert ris.count("TY  - ") == ris.count("ER  - ") == 3
    assert "TI  - Lungs & more" in ris


def test_whatever_is_edited_in_an_export_is_noticed(lake: Lake, tmp_path: Path) -> None:
    file = lake.query(Modality="MR").freeze("sealed").export(tmp_path / "a.json")
    whole = json.loads(file.read_text())
    for name, value in (("who", "somebody else"), ("query", None), ("change", 999), ("name", "other")):
        file.write_text(json.dumps(whole | {name: value}))
        with pytest.raises(QueryError, match="was changed"):
            lake.import_cohort(file)


def test_the_digest_is_of_the_content_and_not_of_the_lake(lake: Lake) -> None:
    before = lake.query(Modality="MR").freeze("before")
    lake.rebuild(progress=False)
    assert lake.query(Modality="MR").freeze("after").digest == before.digest


def test_volumes_that_are_built_later_change_nothing(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake2", create=True) as lake:
        lake.ingest(series(3), volumes=False)
        frozen = lake.query().freeze("unbuilt")
        lake.build_volumes(progress=False)
        assert not frozen.diff()
        assert len(frozen.cohort()) == 1
