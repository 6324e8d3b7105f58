"""What a newcomer reads is true: code runs, commands parse, links lead somewhere, nothing is left out."""

from __future__ import annotations

import dataclasses
import inspect
import re
import runpy
import shlex
import shutil
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import dicomlake as dl
from dicomlake import errors, records
from dicomlake.cli.app import app
from dicomlake.integrity import VerifyReport
from tests.support import PROJECT

DOCS = PROJECT / "docs"
PAGES = (PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
MAKE_CLI = runpy.run_path(str(DOCS / "reference/make_cli.py"))
VERBS: list[tuple[str, Any, str]] = MAKE_CLI["verbs"]()
PYTHON_PAGE = (DOCS / "reference/python.md").read_text(encoding="utf-8")
FEW = 12  # slices: any number covers the whole chest


def name_of(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are marked with a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def run(code: str, names: dict[str, Any], page: Path) -> None:
    exec(compile(code, name_of(page), "exec"), names)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one and takes all temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def sample_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small lake with a chest CT, its RT objects, a brain MR and a PET; copy it before use."""
    folder = tmp_path_factory.mktemp("sample")
    dl.datasets.make("chest-ct", folder / "dicom/ct", slices=FEW)
    dl.datasets.make("chest-rt", folder / "dicom/rt", slices=FEW)
    dl.datasets.make("dynamic-pet", folder / "dicom/pet", slices=3)
    dl.datasets.make("brain-mr", folder / "dicom/mr", slices=3)
    with dl.open(folder / "lake", create=True) as lake:
        lake.ingest(folder / "dicom")
    return folder


# ---- code ----------------------------------------------------------------------------------------------


def test_the_first_code_in_the_readme_runs(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(name: str) -> Path:
        return made(name, slices=FEW)

    made = dl.datasets.make
    monkeypatch.setattr(dl.datasets, "make", make)
    page = PROJECT / "README.md"
    names: dict[str, Any] = {}
    run(blocks(page, "python")[0], names, page)
    names["lake"].close()
    printed = capsys.readouterr().out
    assert re.search(rf"stored +{FEW} ", printed)
    assert "all well" in printed


def test_the_code_of_the_tutorial_runs(in_folder: Path) -> None:
    page = DOCS / "tutorial/first-lake.md"
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        run(block, names, page)
    assert names["hu"].sizes["z"] == 120


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_the_code_of_a_how_to_runs(page: Path, sample_lake: Path, in_folder: Path) -> None:
    shutil.copytree(sample_lake / "lake", "my-lake")
    shutil.copytree(sample_lake / "dicom/mr", "scans")
    with zipfile.ZipFile("export.zip", "w") as archive:
        archive.writestr("README.txt", "no DICOM")
    with dl.open("my-lake") as lake:
        series = lake.query(Modality="CT")[0]
        image = series.open().image
        xs = [0.0, 10.0]
        store = lake.path / str(series.volumes[0].key)
        names = {"lake": lake, "series": series, "image": image, "xs": xs, "ys": xs, "zs": xs}
        names["series_folder"] = store.parents[1]
        for block in blocks(page, "python"):
            run(block, names, page)


def test_a_volume_opens_in_dask_chunks_without_its_lake(sample_lake: Path) -> None:
    import xarray as xr

    with dl.open(sample_lake / "lake") as lake:
        store = lake.path / str(lake.query(Modality="CT")[0].volumes[0].key)
    with xr.open_dataset(store, engine="dicomlake", chunks={}) as dataset:
        assert dataset.image.chunks is not None
        assert dataset.image.dicom.hu().sizes["z"] == FEW


# ---- the command line ------------------------------------------------------------------------------------


def test_the_reference_of_the_command_line_is_what_the_program_says() -> None:
    written = (DOCS / "reference/cli.md").read_text(encoding="utf-8")
    assert written == MAKE_CLI["page"](), "run python docs/reference/make_cli.py"


@pytest.mark.parametrize(("verb", "epilog"), [(verb, epilog) for verb, _function, epilog in VERBS])
def test_the_help_of_a_verb_shows_examples(verb: str, epilog: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    shown = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert shown.exit_code == 0
    assert "Examples" in shown.output
    examples = MAKE_CLI["examples"](epilog)
    assert examples
    assert all(line in shown.output for line in examples)


def test_the_readme_lists_every_verb() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert [verb for verb, *_ in VERBS if f"| `dicomlake {verb}" not in text] == []


def commands() -> Iterator[tuple[str, str]]:
    """Every command line of dicomlake that help and pages show."""
    for verb, _function, epilog in VERBS:
        for line in MAKE_CLI["examples"](epilog):
            yield f"{verb} --help", line
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                yield name_of(page), line


def parts(line: str) -> Iterator[list[str]]:
    """The commands that a shell would run, without comments."""
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), "|"]:
        if word in ("|", "&&"):
            yield words
            words = []
        else:
            words.append(word)


@pytest.mark.parametrize(("where", "line"), [c for c in commands() if c[1].startswith("dicomlake ")])
def test_a_command_that_is_shown_can_be_parsed(where: str, line: str) -> None:
    top: Any = typer.main.get_command(app)
    for words in parts(line):
        if words[0] == "dicomlake":
            command, rest = top.commands[words[1]], words[2:]
            if hasattr(command, "commands"):
                command, rest = command.commands[rest[0]], rest[1:]
            command.make_context(words[1], rest)


# ---- names -----------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference() -> None:
    assert [name for name in dl.__all__ if not re.search(rf"^## {name}\b", PYTHON_PAGE, re.M | re.I)] == [
        "DicomlakeError"  # in the tree of errors
    ]


def public_members() -> Iterator[str]:
    from dicomlake.ingest.report import Entry, Report
    from dicomlake.volumes.accessor import DicomAccessor

    for kind in (dl.Lake, dl.Cohort, dl.Series, Report, VerifyReport, DicomAccessor):
        yield from (name for name, _member in inspect.getmembers(kind) if not name.startswith("_"))
    for record in (records.Volume, records.Instance, records.Finding, records.Refused, Report):
        yield from (field.name for field in dataclasses.fields(record) if not field.name.startswith("_"))
    yield from (*Entry._fields, *records.SeriesKey._fields, *dl.datasets.__all__)


def test_every_public_member_is_in_the_reference() -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", PYTHON_PAGE))
    assert sorted({name for name in public_members() if not re.search(rf"\b{name}\b", code)}) == []


def test_the_tree_of_errors_is_that_of_the_module() -> None:
    tree = inspect.cleandoc(str(errors.__doc__)).split("\n\n")[1]
    assert inspect.cleandoc(tree) in PYTHON_PAGE


def test_every_verdict_is_explained() -> None:
    from typing import get_args

    from dicomlake.dicom.stacking import Verdict

    text = (DOCS / "reference/verdicts.md").read_text(encoding="utf-8")
    assert [verdict for verdict in get_args(Verdict) if f"| `{verdict}` |" not in text] == []


def test_every_kind_of_finding_is_explained() -> None:
    text = (DOCS / "reference/verdicts.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "dicomlake").rglob("*.py"))
    kinds = set(re.findall(r'Finding\(\s*"(?:info|warning|error)",\s*"(\w+)"', source))
    assert len(kinds) > 5
    assert sorted(kind for kind in kinds if f"`{kind}`" not in text) == []


def test_every_dependency_has_its_reason() -> None:
    note = (DOCS / "decisions/0005-dependencies.md").read_text(encoding="utf-8").lower()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(d for group in project["optional-dependencies"].values() for d in group),
    ]
    names = {re.split(r"[\[<>=;~! ]", one)[0].lower() for one in wanted} - {"dicomlake"}
    assert sorted(name for name in names if not re.search(rf"\b{re.escape(name)}\b", note)) == []


# ---- pages -----------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    broken = []
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    """By a link to itself or to its folder."""
    links = set(re.findall(r"\]\(([^)#\s]+)", (DOCS / "README.md").read_text(encoding="utf-8")))
    pages = [page.relative_to(DOCS) for page in DOCS.rglob("*.md") if page != DOCS / "README.md"]
    assert [page for page in pages if not {page.as_posix(), f"{page.parent.as_posix()}/"} & links] == []


@pytest.mark.parametrize("page", [*PAGES, *sorted((PROJECT / "notebooks").glob("*.ipynb"))], ids=name_of)
def test_a_page_names_no_place_of_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"(?:/home/|/root/|/Users/|/tmp/|/work/|site-packages)\S*", text) == []


def test_pictures_are_small_enough_for_a_first_screen() -> None:
    sizes = {path.name: path.stat().st_size for path in (DOCS / "images").glob("*.png")}
    assert "viewer.png" in sizes
    assert [name for name, size in sizes.items() if size >= 300 << 10] == []


def test_the_pictures_of_the_proof_can_be_drawn_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [lab]: pip install '.[lab]'")
    runpy.run_path(str(DOCS / "images/make_proof.py"))["draw"](tmp_path)
    shown = re.findall(
        r"images/(proof-\w+\.png)", (DOCS / "explanation/proof.md").read_text(encoding="utf-8")
    )
    assert {path.name for path in tmp_path.iterdir()} == set(shown)
    assert all((DOCS / "images" / name).stat().st_size < 100 << 10 for name in shown)


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    wanted = re.findall(r"^make (\w+)", (PROJECT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert wanted
    assert [target for target in wanted if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
