"""The house rules: layers, light imports, one list of dependencies, a short list of public names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import PROJECT

PACKAGE = PROJECT / "dicomlake"
LAYERS = {
    "errors": 0,
    "records": 0,
    "settings": 1,
    "progress": 0,
    "forking": 0,
    "tables": 0,
    "workers": 0,
    "datasets": 1,
    "dicom": 1,
    "storage": 2,
    "catalog": 2,
    "ingest": 3,
    "volumes": 3,
    "objects": 3,
    "integrity": 3,
    "doctor": 3,
    "features": 3,
    "network": 3,
    "widgets": 4,
    "series": 5,
    "opening": 6,
    "cohorts": 6,
    "listening": 6,
    "lake": 7,
    "cli": 8,
    "__main__": 9,
}
HEAVY = {
    *("xarray", "dask", "pandas", "pynetdicom", "SimpleITK", "zarr", "pydicom", "matplotlib"),
    *("highdicom", "nibabel", "distributed", "ipywidgets", "anywidget"),
}
CONDA = {
    "dask[array]": "dask-core",
    "duckdb": "python-duckdb",
    "matplotlib": "matplotlib-base",
    "prometheus-client": "prometheus_client",
}
NOT_IN_CONDA = {"pysqlite3"}  # conda's own SQLite is new


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dicomlake"):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("dicomlake."))


def _part(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def test_imports_go_downward_and_neighbours_do_not_meet() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, path in _modules()
        for imported in _imports(path)
        if (mine := _part(module)) and (other := _part(imported)) in LAYERS
        if mine != other and LAYERS[other] >= LAYERS[mine]
    ]
    assert wrong == []


def test_every_part_of_the_package_has_a_layer() -> None:
    assert {part for module, _path in _modules() if (part := _part(module))} == set(LAYERS)


def test_no_module_imports_itself_in_a_circle() -> None:
    known = dict(_modules())
    graph = {
        m: {i for i in _imports(path, top_only=True) if i in known and i != m} for m, path in known.items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def _loaded_by(code: str) -> set[str]:
    script = (
        f"import sys, json\n{code}\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_dicomlake_loads_nothing_heavy() -> None:
    loaded = _loaded_by("import dicomlake")
    assert loaded & (HEAVY | {"numpy", "sqlalchemy", "duckdb", "typer", "rich"}) == set()


@pytest.mark.parametrize(
    "verb", [["ls"], ["show", "1.2.3"], ["doctor"], ["--help"], ["query", "Modality=CT"]]
)
def test_a_small_verb_loads_nothing_heavy(verb: list[str], tmp_path: Path) -> None:
    code = (
        f"import contextlib, os\nimport dicomlake\nos.chdir({str(tmp_path)!r})\n"
        f"dicomlake.open('.', create=True).close()\nsys.argv = ['dicomlake', *{verb!r}]\n"
        "from dicomlake.cli import main\nwith contextlib.suppress(SystemExit): main()\n"
    )
    loaded = _loaded_by(code)
    assert loaded & HEAVY == set()


def _requirements() -> dict[str, str]:
    """Name and version range of what users need, extras for development left out."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    found = [re.match(r"([A-Za-z0-9_.-]+(?:\[\w+\])?)([^;]*)", line) for line in needed]
    return {m[1]: m[2].strip() for m in found if m}


def test_environment_yml_is_in_step_with_pyproject() -> None:
    listed = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    lines = [line for line in listed if isinstance(line, str)]
    lines += [line for entry in listed if isinstance(entry, dict) for line in entry["pip"] if line[0] != "-"]
    conda = {m[1]: m[2] for line in lines if (m := re.match(r"([\w.-]+)(.*)", line))}
    conda.pop("pip")
    assert conda.pop("python") == ">=3.11"
    wanted = {CONDA.get(n, n.lower()): v for n, v in _requirements().items() if n not in NOT_IN_CONDA}
    assert conda == wanted


def test_the_public_names_are_these() -> None:
    import dicomlake

    names = ["Cohort", "DicomlakeError", "Lake", "Series", "__version__", "compare", "datasets"]
    names += ["nearest", "open", "rebuild", "view"]
    assert dicomlake.__all__ == names
    assert [name for name in names if not hasattr(dicomlake, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = dicomlake.Nothing


def test_all_errors_derive_from_one_and_stand_in_its_tree() -> None:
    from dicomlake import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(one, errors.DicomlakeError) for one in classes)
    assert [one.__name__ for one in classes if one.__name__ not in (errors.__doc__ or "")] == []
