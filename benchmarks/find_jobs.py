"""The job `orthanc-find`: the same questions about the same small archive, to dicomlake and to Orthanc.

The archive is made so that the answer to each question is known before anybody is asked: `_facts` says
what series number n holds. Both programs run already and have answered the question once.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import peers
from benchmarks.catalog_peers import orthanc_archive, orthanc_series_id
from benchmarks.harness import Case, Job, Measure, Target
from benchmarks.workload import Workload, files
from dicomlake import datasets

if TYPE_CHECKING:
    from dicomlake.lake import Lake

Facts = Mapping[str, str]
_A_SERIES = 5  # instances
_TIMES = 9
_DESCRIPTIONS = ("Axial chest", "Coronal head", "Sagittal spine", "Axial abdomen", "Localizer", "chest thin")
_KERNELS = ("B30f", "B50f", "B70s", "STANDARD", "LUNG")
_FORMAT = 2  # of the archive


@dataclass(frozen=True, slots=True)
class Question:
    """A question in the words of both, and the truth.

    query: `Query` of Orthanc's /tools/find, at series level. ask: a lake for its series. true: whether the
    facts of a series meet it. unsupported: Orthanc is known to give no answer.
    """

    name: str
    query: Facts
    ask: Callable[[Lake], Any]
    true: Callable[[Facts], bool]
    unsupported: bool = False


def _facts(number: int) -> Facts:
    """Elements of series number n: five to a study, two studies to a patient."""
    study = number // 5
    return {
        "PatientID": f"P{study // 2:05d}",
        "StudyInstanceUID": f"2.25.70{study:06d}",
        "SeriesInstanceUID": f"2.25.71{number:06d}",
        "StudyDate": f"{2000 + study * 5 % 24}{1 + study % 12:02d}{1 + study % 28:02d}",
        "Modality": ("CT", "MR", "PT", "CT")[number % 4],
        "SeriesDescription": _DESCRIPTIONS[number % len(_DESCRIPTIONS)],
        "ConvolutionKernel": _KERNELS[number // 3 % len(_KERNELS)],
        "KVP": str(80 + number % 7 * 10),
    }


def _questions(series: int) -> tuple[Question, ...]:
    uid = _facts(series // 2)["SeriesInstanceUID"]
    return (
        Question(
            "a SeriesInstanceUID",
            {"SeriesInstanceUID": uid},
            lambda lake: lake.find(uid),
            lambda facts: facts["SeriesInstanceUID"] == uid,
        ),
        Question(
            "PatientID P0000*",
            {"PatientID": "P0000*"},
            lambda lake: lake.query(PatientID="P0000*"),
            lambda facts: facts["PatientID"].startswith("P0000"),
        ),
        Question(
            "Modality and a range of StudyDate",
            {"Modality": "CT", "StudyDate": "20050101-20101231"},
            lambda lake: lake.query(Modality="CT", StudyDate=("20050101", "20101231")),
            lambda facts: facts["Modality"] == "CT" and "20050101" <= facts["StudyDate"] <= "20101231",
        ),
        Question(
            "SeriesDescription *chest*",
            {"SeriesDescription": "*chest*"},
            lambda lake: lake.query(SeriesDescription="*chest*"),
            lambda facts: "chest" in facts["SeriesDescription"],
        ),
        Question(
            "ConvolutionKernel, not indexed by Orthanc",
            {"ConvolutionKernel": "B50f"},
            lambda lake: lake.query(ConvolutionKernel="B50f"),
            lambda facts: facts["ConvolutionKernel"] == "B50f",
        ),
        Question(
            "a range of KVP",
            {"KVP": "100-120"},
            lambda lake: lake.query(KVP=(100, 120)),
            lambda facts: 100 <= int(facts["KVP"]) <= 120,
            unsupported=True,
        ),
    )


# ---- the archive


def archive(folder: Path, instances: int) -> Path:
    """A folder of so many small files in series of five, made unless it lies there already."""
    made = folder / f"find-{instances}"
    note = made / "made.json"
    if note.is_file() and json.loads(note.read_text()) == {"format": _FORMAT}:
        return made
    shutil.rmtree(made, ignore_errors=True)
    pattern = datasets.make("brain-mr", made / "pattern", slices=1)
    for number in range(instances // _A_SERIES):
        _write_series(files(pattern)[0], made / "files", number)
    shutil.rmtree(pattern)
    note.write_text(json.dumps({"format": _FORMAT}))
    return made


def _write_series(pattern: Path, folder: Path, number: int) -> None:
    import pydicom

    image = pydicom.dcmread(pattern)
    image.PixelData = image.pixel_array[:16, :16].tobytes()
    image.Rows = image.Columns = 16
    for name, value in _facts(number).items():
        setattr(image, name, value)
    image.SeriesNumber = number % 5
    target = folder / f"{number:05d}"
    target.mkdir(parents=True)
    for instance in range(_A_SERIES):
        image.SOPInstanceUID = f"2.25.72{number:06d}{instance}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.InstanceNumber = instance + 1
        image.save_as(target / f"{instance}.dcm")


# ---- the job


def orthanc_find(work: Workload, scratch: Path) -> Job:
    """Six questions to both."""
    import dicomlake

    made = archive(work.catalog, work.sizes.found)
    lake = scratch / "find-lake"
    with dicomlake.open(lake, create=True) as opened:
        opened.ingest(made / "files", volumes=False, progress=False)
    program = peers.orthanc_program()
    store = orthanc_archive(program, made) if program else scratch
    questions = _questions(work.sizes.found // _A_SERIES)
    cases = [
        case
        for question in questions
        for case in (
            _ours(question, lake, work.sizes.found),
            _theirs(question, program, store, work.sizes.found),
        )
    ]
    return Job(
        name="orthanc-find",
        title=f"One question about {work.sizes.found:,} instances, the median of {_TIMES}",
        work=1,
        of="questions",
        cases=tuple(cases),
        targets=tuple(
            Target(f"dicomlake: {one.name}", 1 / 20, f"Orthanc: {one.name}")
            for one in questions
            if not one.unsupported
        ),
    )


def _ours(question: Question, lake: Path, instances: int) -> Case:
    expected = {facts["SeriesInstanceUID"] for facts in _true(question, instances)}

    @contextmanager
    def asked(_folder: Path) -> Iterator[Any]:
        import dicomlake

        with dicomlake.open(lake) as opened:
            len(question.ask(opened))
            yield opened

    return Case(
        name=f"dicomlake: {question.name}",
        role="dicomlake",
        run=lambda opened: _timed(lambda: question.ask(opened)),
        done=lambda _, cohort: int({series.uid for series in cohort} == expected),
        around=asked,
    )


def _theirs(question: Question, program: Path | None, store: Path, instances: int) -> Case:
    expected = {orthanc_series_id(facts) for facts in _true(question, instances)}

    def find(server: peers.Orthanc) -> Measure:
        found = _timed(lambda: server.find({"Level": "Series", "Query": dict(question.query)}))
        if question.unsupported and not found.result:
            raise Unanswered(f"0 series where there are {len(expected):,}, and no error")
        return found

    @contextmanager
    def asked(folder: Path) -> Iterator[peers.Orthanc]:
        with started(folder) as server:
            server.find({"Level": "Series", "Query": dict(question.query)})
            yield server

    started: Callable[[Path], AbstractContextManager[peers.Orthanc]]
    started = peers.orthanc(program or Path(), store)
    return Case(
        name=f"Orthanc: {question.name}",
        role="peer",
        run=find,
        done=lambda _, ids: int(set(ids) == expected),
        around=asked,
        absent="" if program else "Orthanc",
    )


class Unanswered(Exception):
    """Orthanc has no answer to a question of this kind."""


def _true(question: Question, instances: int) -> list[Facts]:
    return [facts for facts in map(_facts, range(instances // _A_SERIES)) if question.true(facts)]


def _timed(ask: Callable[[], Any]) -> Measure:
    """Seconds of an answer, the median of some."""
    seconds = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        answer = ask()
        seconds.append(time.perf_counter() - started)
    return Measure(statistics.median(seconds), None, answer)
