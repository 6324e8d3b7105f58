"""The benchmarks run, count what each contender did, and compare within rounds. No time is judged here."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pydicom
import pytest

import dicomlake
from benchmarks import __main__ as command
from benchmarks import (
    catalog_peers,
    enhanced,
    find_jobs,
    peers,
    report,
    scale,
    scale_attributes,
    volume_jobs,
    volume_peers,
    voxels,
    workload,
)
from benchmarks.harness import (
    Case,
    Job,
    Measure,
    Outcome,
    Role,
    Spread,
    Target,
    paired_ratio,
    run,
    spread,
    verdicts,
)
from benchmarks.jobs import JOBS
from tests.support import PROJECT

MAY_BE_ABSENT = {"polars", "psycopg", "PostgreSQL", "idc-index for made-up rows"}
MAY_BE_ABSENT |= {"chromium", "playwright", "anywidget", "jupyterlab", "ipyniivue", "storescp", "dcmsend"}
TINY = workload.Sizes(ct=3, mr_series=1, mr_slices=1, long_ct=1, frames=1, tiny=1)


def case(name: str, values: Any, role: Role = "dicomlake", done: int = 1, absent: str = "") -> Case:
    """A case that reports these values, one a round."""
    rounds = iter(values)
    measured: Callable[[object], Measure] = lambda _: Measure(next(rounds), 0.5)  # noqa: E731
    return Case(name=name, role=role, run=measured, done=lambda *_: done, absent=absent)


def job(*cases: Case, targets: tuple[Target, ...] = ()) -> Job:
    return Job(name="job", title="A job", work=1, of="files", cases=cases, targets=targets)


def _note(ran: list[str], name: str, _context: object) -> None:
    ran.append(name)


def test_a_ratio_is_taken_round_by_round_and_not_between_medians() -> None:
    slow_last = paired_ratio([1.0, 2.0, 30.0], [2.0, 4.0, 10.0])
    assert slow_last == Spread(0.5, 0.5, 3.0)
    # the ratio of the medians would be 2 / 3
    assert paired_ratio([1.0, 2.0, 9.0], [2.0, 1.0, 3.0]) == Spread(2.0, 0.5, 3.0)


def test_rounds_that_do_not_match_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1.0, 2.0], [1.0])


def test_the_spread_of_an_even_number_of_rounds_is_their_middle() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0]) == Spread(2.5, 1.0, 4.0)
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def test_a_target_is_judged_by_the_median_of_the_paired_ratios() -> None:
    targets = (Target("ours", 0.5, "theirs"), Target("ours", 0.4, "theirs"), Target("ours", 3.0))
    made = job(case("ours", []), case("theirs", [], "peer"), targets=targets)
    outcomes = [Outcome("ours", "dicomlake", (1.0, 2.0, 9.0)), Outcome("theirs", "peer", (2.0, 4.0, 9.0))]
    judged = verdicts(made, outcomes)
    assert [one.met for one in judged] == [True, False, True]
    assert [one.reached for one in judged] == [Spread(0.5, 0.5, 1.0)] * 2 + [Spread(2.0, 1.0, 9.0)]


def test_a_target_against_an_absent_peer_is_not_judged() -> None:
    made = job(case("ours", []), targets=(Target("ours", 1.0, "theirs"),))
    judged = verdicts(
        made, [Outcome("ours", "dicomlake", (1.0,)), Outcome("theirs", "peer", (), trouble="no")]
    )
    assert judged[0].reached is None
    assert judged[0].met is None
    assert "not measured" in report.job_markdown(report.Result(made, (), (0.0, 0.0)))


def test_a_contender_that_loses_work_has_failed_however_fast_it_was(tmp_path: Path) -> None:
    outcomes = run(job(case("loses", [0.1] * 3, done=0), case("works", [2.0, 3.0, 4.0])), 3, tmp_path)
    assert outcomes[0].values == ()
    assert outcomes[0].trouble == "failed: WorkLost: 0 of 1 done"
    assert outcomes[1].values == (2.0, 3.0, 4.0)
    assert outcomes[1].cpu_s == (0.5, 0.5, 0.5)


def test_a_failure_in_one_round_takes_the_case_out_of_the_comparison(tmp_path: Path) -> None:
    targets = (Target("dies", 1.0, "works"),)
    made = job(case("dies", [1.0]), case("works", [1.0] * 3), targets=targets)
    outcomes = run(made, 3, tmp_path)
    assert outcomes[0].trouble.startswith("failed: ")
    assert verdicts(made, outcomes)[0].reached is None


def test_an_absent_peer_is_named_and_not_fatal(tmp_path: Path) -> None:
    made = job(case("there", [1.0]), case("theirs", [], "peer", absent="Peer 5000"))
    outcomes = run(made, 1, tmp_path)
    assert outcomes[1].trouble == "not installed: Peer 5000"
    assert "| theirs | peer | not installed: Peer 5000 |" in report.job_markdown(
        report.Result(made, tuple(outcomes), (0.0, 0.0))
    )


def test_the_cases_of_a_round_run_in_a_shuffled_order_that_repeats(tmp_path: Path) -> None:
    def order(folder: Path) -> list[str]:
        ran: list[str] = []

        def noting(name: str) -> Case:
            return Case(name=name, role="peer", run=partial(_note, ran, name), done=lambda *_: 1)

        run(job(*map(noting, "abcdef")), 4, folder)
        return ran

    first = order(tmp_path / "first")
    assert first == order(tmp_path / "second")
    assert sorted(first) == sorted("abcdef" * 4)
    assert len({tuple(first[i : i + 6]) for i in range(0, 24, 6)}) > 1


def test_renaming_uids_keeps_the_length_and_touches_nothing_else() -> None:
    image = b"head 2.25.123456789 middle 2.25.987654321 tail"
    renamed = workload.renamed(image, ["2.25.123456789"], 42)
    assert renamed == b"head 2.25.123400042 middle 2.25.987654321 tail"


def test_the_checksum_tells_another_order_and_shape_but_not_another_width() -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 5
    assert voxels.digest(values.astype(np.float64)) == voxels.digest(values)
    others = (values[::-1], values[:, ::-1], values[:, :, ::-1], values.reshape(3, 2, 4), values + 1)
    assert len({voxels.digest(one) for one in (values, *others)}) == 6


def test_a_volume_with_two_slices_exchanged_counts_as_lost(tmp_path: Path) -> None:
    work = workload.prepare(tmp_path / "data", TINY)
    paths = voxels.by_position(work.ct)
    heights = [float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in paths]
    assert heights == sorted(heights)
    assert len(set(heights)) == TINY.ct
    right = np.stack([pydicom.dcmread(p).pixel_array.astype(int) - 1024 for p in paths])  # HU of chest-ct
    count = volume_jobs._whole(work, lambda _, made: made)
    assert count(None, right) == TINY.ct
    assert count(None, right[[1, 0, *range(2, TINY.ct)]]) == 0


def test_the_enhanced_ct_is_one_object_with_the_frames_in_their_places(tmp_path: Path) -> None:
    work = workload.prepare(tmp_path / "data", TINY)
    slices = workload.files(work.ct)
    enhanced.write(tmp_path / "made" / "one.dcm", slices, 5)
    made = pydicom.dcmread(tmp_path / "made" / "one.dcm")
    expected = [pydicom.dcmread(slices[number % TINY.ct]).pixel_array for number in range(5)]
    assert np.array_equal(made.pixel_array, np.stack(expected))
    groups = made.PerFrameFunctionalGroupsSequence
    heights = [group.PlanePositionSequence[0].ImagePositionPatient[2] for group in groups]
    assert heights == [0, 0.5, 1, 1.5, 2]


def test_a_ct_that_its_compression_has_changed_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = workload.prepare(tmp_path / "data", TINY)
    slices = workload.files(work.ct)

    def lossy(image: pydicom.Dataset, *_: object, **__: object) -> None:
        image.PixelData = image.PixelData[:-2] + b"\x7f\x00"

    monkeypatch.setattr(pydicom.Dataset, "compress", lossy)
    with pytest.raises(ValueError, match="changed by compression"):
        workload._make_compressed(tmp_path / "lossy", slices, "1.2.840.10008.1.2.4.80")


def test_dcm2niix_without_jpeg_ls_is_not_asked_to_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(name: str, codecs: str) -> Path:
        made = tmp_path / name / "dcm2niix"
        made.parent.mkdir()
        made.write_text(f'#!/bin/sh\necho "Chris Rorden\'s dcm2niiX version v9 {codecs}"\n')
        made.chmod(0o755)
        return made

    plain, full = program("plain", "(JP2:OpenJPEG)"), program("full", "(JP2:OpenJPEG) (JP-LS:CharLS)")
    monkeypatch.setattr(volume_peers, "absent", lambda module: module)
    monkeypatch.setenv("PATH", f"{plain.parent}:/bin")
    assert volume_peers.dcm2niix_program() == plain
    assert volume_peers.dcm2niix_program(jpeg_ls=True) is None
    monkeypatch.setenv("PATH", f"{full.parent}:/bin")
    assert volume_peers.dcm2niix_program(jpeg_ls=True) == full
    assert volume_peers.dcm2niix_version(full) == "v9 (JP2:OpenJPEG) (JP-LS:CharLS)"


# ---- the large catalog


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> scale.Fixture:
    """A small fixture of made-up rows."""
    return scale.prepare(tmp_path_factory.mktemp("scale"), 240, made_up=True)


def _facts_of(made: scale.Fixture) -> list[dict[str, Any]]:
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(f"SELECT * FROM '{made.rows}' ORDER BY series_id")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def test_the_catalog_of_the_fixture_is_whole_and_says_what_its_parquet_says(made: scale.Fixture) -> None:
    expected = _facts_of(made)
    with dicomlake.open(made.lake) as lake:
        assert lake.counts() == {
            **dict.fromkeys(lake.counts(), 0),
            "patients": len({row["PatientID"] for row in expected}),
            "studies": len({row["StudyInstanceUID"] for row in expected}),
            "series": 240,
        }
        rows = {row["SeriesInstanceUID"]: row for row in lake.rows("series")}
        for row in expected:
            wanted = {name: value for name, value in row.items() if name != "series_id"}
            assert rows[row["SeriesInstanceUID"]] == wanted
            (series,) = lake.find(row["SeriesInstanceUID"])
            header = next(iter(lake.headers(row["series_id"])))[1]
            assert header.text("SeriesDescription") == series.facts["SeriesDescription"]
            assert header.number("KVP") == row["KVP"]
        # every row has the digest that belongs to it; only the instances are left out
        assert {found.kind for found in lake.verify().findings} == {"series_unsettled"}


def test_the_fixture_is_the_same_every_time(made: scale.Fixture, tmp_path: Path) -> None:
    again = scale.prepare(tmp_path, 240, made_up=True)
    assert _facts_of(again) == _facts_of(made)
    with duckdb.connect(":memory:") as first, duckdb.connect(":memory:") as second:
        queries = [
            scale_attributes.select(connection, f"'{one.rows}'")
            for connection, one in ((first, made), (second, again))
        ]
        assert first.execute(queries[0]).fetchall() == second.execute(queries[1]).fetchall()


def test_the_elements_of_the_fixture_are_those_of_the_standard_and_in_order() -> None:
    paths = [one.path for one in scale_attributes.ELEMENTS]
    assert paths == sorted(set(paths))
    for one in scale_attributes.ELEMENTS:
        if one.creator is None:
            keyword = one.path.rpartition(".")[2]
            assert one.vr in pydicom.datadict.dictionary_VR(keyword).split(" or "), one.path


def test_the_long_rows_agree_with_a_count_in_python(made: scale.Fixture) -> None:
    with duckdb.connect(":memory:") as connection:
        query = scale_attributes.select(connection, f"'{made.rows}'")
        rows = connection.execute(f"SELECT series_id, path, text, fold, low, high FROM ({query})").fetchall()
    assert [row[:2][::-1] for row in rows] == sorted(row[:2][::-1] for row in rows)
    facts = _facts_of(made)
    kvp = {i: low for i, path, _text, _fold, low, _high in rows if path == "KVP"}
    assert kvp == {row["series_id"]: row["KVP"] for row in facts if row["KVP"] is not None}
    described = {i: fold for i, path, _text, fold, _low, _high in rows if path == "SeriesDescription"}
    assert described == {row["series_id"]: row["SeriesDescription"].lower() for row in facts}
    dates = {i: low for i, path, _text, _fold, low, _high in rows if path == "StudyDate"}
    epoch = datetime.date(1970, 1, 1)
    for row in facts:
        day = datetime.datetime.strptime(row["StudyDate"], "%Y%m%d").date()
        assert dates[row["series_id"]] == (day - epoch).days
    assert 80 < len(rows) / len(facts) < 180


def test_json_headers_answer_like_the_long_rows(made: scale.Fixture) -> None:
    path, condition = "ProcedureCodeSequence.CodeMeaning", "value = 'VALUE 17'"
    expected = sum((i * 7919 + len(path)) % 300 == 17 for i in range(1, 241))
    assert expected
    parquet, table = catalog_peers.json_headers(made), catalog_peers.sqlite_headers(made)
    assert catalog_peers.duckdb_json_count(parquet, path, condition) == expected
    assert catalog_peers.sqlite_json_count(table, path, condition) == expected


def test_a_facet_ignores_the_choice_made_in_it(tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            f"COPY (FROM (VALUES ('CT', 'CHEST'), ('CT', 'HEAD'), ('MR', 'HEAD'), ('MR', NULL)) "
            f"AS t(Modality, BodyPartExamined)) TO '{rows}' (FORMAT parquet)"
        )
    facets, chosen = ("Modality", "BodyPartExamined"), {"Modality": "MR"}
    expected = {"Modality": {"CT": 2, "MR": 2}, "BodyPartExamined": {"HEAD": 1, None: 1}}
    assert catalog_peers.duckdb_facets(rows, facets, chosen) == expected
    if not peers.absent("polars"):
        assert catalog_peers.polars_facets(rows, facets, chosen) == expected


def test_the_questions_to_orthanc_have_the_answers_that_pydicom_finds(tmp_path: Path) -> None:
    made = find_jobs.archive(tmp_path, 600)
    images = [pydicom.dcmread(path, stop_before_pixels=True) for path in workload.files(made / "files")]
    assert len({image.SOPInstanceUID for image in images}) == 600
    for question in find_jobs._questions(120):
        found = {
            image.SeriesInstanceUID
            for image in images
            if question.true({name: str(image[name].value) for name in find_jobs._facts(0)})
        }
        assert found == {facts["SeriesInstanceUID"] for facts in find_jobs._true(question, 600)}
        assert 0 < len(found) < 120, question.name


@pytest.mark.skipif(peers.orthanc_program() is None, reason="needs Orthanc")
def test_orthanc_names_the_same_series_and_none_for_a_range_of_numbers(tmp_path: Path) -> None:
    program, made = peers.orthanc_program(), find_jobs.archive(tmp_path, 50)
    assert program is not None
    store = catalog_peers.orthanc_archive(program, made)
    with peers.orthanc(program, store)(tmp_path) as server:
        for question in find_jobs._questions(10):
            found = server.find({"Level": "Series", "Query": dict(question.query)})
            true = {catalog_peers.orthanc_series_id(facts) for facts in find_jobs._true(question, 50)}
            assert true
            assert set(found) == (set() if question.unsupported else true), question.name


def test_every_job_runs_quickly_and_does_all_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "orthanc_program", lambda: None)
    results = command.main(["--quick", "--work", str(tmp_path)])
    assert [one.job.name for one in results] == list(JOBS)
    troubles = {(r.job.name, o.name): o.trouble for r in results for o in r.outcomes if o.trouble}
    orthanc = {("ingest-ct", "Orthanc, 4 POST clients"), ("ingest-mr", "Orthanc, 4 POST clients")}
    orthanc |= {("orthanc-find", f"Orthanc: {one.name}") for one in find_jobs._questions(10)}
    orthanc |= {(one, "Orthanc") for one in ("receive-ct", "receive-mr", "receive-nagle")}
    if not shutil.which("dcmsend"):
        orthanc.remove(("receive-nagle", "Orthanc"))  # without that sender it has no cases
    assert {name for name, trouble in troubles.items() if trouble == "not installed: Orthanc"} == orthanc
    absent = {(one.job.name, each.name): each.absent for one in results for each in one.job.cases}
    others = {name for name in troubles if name not in orthanc}
    assert others == {name for name, missing in absent.items() if missing and missing != "Orthanc"}
    dcm2niix = {name for name in others if "dcm2niix" in absent[name]}
    assert all(set(absent[name].split(", ")) <= MAY_BE_ABSENT for name in others - dcm2niix)
    assert not dcm2niix or volume_peers.dcm2niix_program(jpeg_ls=True) is None
    assert all(len(o.values) == 1 for r in results for o in r.outcomes if not o.trouble)

    kept = json.loads((tmp_path / "results" / "results.json").read_text())
    assert set(kept["jobs"]) == set(JOBS)
    assert kept["conditions"]["rounds"] == 1
    tables = (tmp_path / "results" / "results.md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert all(one.job.title in tables and one.job.title in printed for one in results)
    assert "kept in" in printed
    assert not (tmp_path / "scratch").exists()


def test_tables_are_published_between_the_marks_of_the_page() -> None:
    page = (PROJECT / "docs/reference/benchmarks.md").read_text(encoding="utf-8")
    once = report.published(page, "### First")
    assert report.published(once, "### Second") == once.replace("First", "Second")
    assert once.startswith(page[: page.index("<!-- results -->")])
    assert once.endswith(page[page.index("<!-- end of results -->") :])
    with pytest.raises(ValueError, match="no lines"):
        report.published("a page", "### First")


def test_the_commands_for_other_harnesses_are_json_with_their_places_named() -> None:
    commands = json.loads((Path(peers.__file__).parent / "peers.json").read_text())
    assert all("{src}" in text and "{dst}" in text for text in commands["ingest"].values())
    assert all("{x}" in text for text in commands["sagittal"].values())
