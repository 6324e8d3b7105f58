"""A catalog of the size of the Imaging Data Commons, for measuring queries: about 1.04 million series.

The rows are real: those of the PyPI package `idc-index-data`. Elements that it does not tell, such as KVP,
are computed from the place of the row, so the fixture is the same everywhere. `--quick` makes its rows up.

A fixture holds `series.parquet`, the columns of the catalog's series table, which peers read; and `lake`,
a lake whose catalog and mirror hold the same rows. There are no originals, and as instances would be 59
million rows that no job reads, `instance` is empty. Each series has a header block of one instance.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert

from benchmarks import scale_mirror, scale_sql
from dicomlake.catalog import blocks, journal, schema, text_index
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.walk import Encoding, Raw
from dicomlake.storage import layout

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Row = dict[str, Any]
FULL = 1_044_191
"""Series in release 25 of the package; a newer one has more, of which the first by patient are taken."""
_REQUIREMENT = "idc-index-data==25.0.5"
_INDEX = "idc_index*.parquet"
_FORMAT = 1  # of fixtures: another number makes them again
_MEMORY = "2GB"
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Fixture:
    """What was made. rows: the series as Parquet. lake: a folder to open."""

    series: int
    folder: Path

    @property
    def rows(self) -> Path:
        """The catalog's columns of all series, with `series_id`; what peers read."""
        return self.folder / "series.parquet"

    @property
    def lake(self) -> Path:
        """The folder of the lake."""
        return self.folder / "lake"


def prepare(folder: Path, series: int, *, made_up: bool = False) -> Fixture:
    """The fixture of so many series, made unless it lies there already.

    made_up: without `idc-index-data`. Raises RuntimeError when the package cannot be had.
    """
    made = Fixture(series, folder / f"{series}{'-made-up' * made_up}")
    note, wanted = made.folder / "made.json", {"format": _FORMAT, "tables": _tables()}
    if note.is_file() and json.loads(note.read_text()) == wanted:
        return made
    shutil.rmtree(made.folder, ignore_errors=True)
    made.folder.mkdir(parents=True)
    _write_rows(made, scale_sql.MADE_UP if made_up else _idc_index(folder))
    _make_lake(made)
    scale_mirror.write(made)
    note.write_text(json.dumps(wanted))
    return made


def _tables() -> dict[str, list[str]]:
    """Tables and columns of the catalog; when they change, a fixture is made again."""
    return {table.name: [column.name for column in table.c] for table in schema.VERSIONED}


def connect(folder: Path) -> DuckDBPyConnection:
    """DuckDB with bounded memory that spills into a folder."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute(f"SET memory_limit = '{_MEMORY}'; SET temp_directory = '{folder / 'spill'}'")
    return connection


# ---- rows


def _idc_index(folder: Path) -> str:
    """A FROM clause for the series of the Imaging Data Commons: installed, else downloaded to the folder.

    The index may be one file or several.
    """
    package = folder / "idc-index-data"
    found = _installed() or sorted(package.rglob(_INDEX))
    if not found:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", package]
        done = subprocess.run([*map(str, command), _REQUIREMENT], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{_REQUIREMENT} cannot be installed: install it, or run with --quick")
        found = sorted(package.rglob(_INDEX))
    return f"FROM read_parquet({[str(path) for path in found]}, union_by_name = true)"


def _installed() -> list[Path]:
    try:
        listed = distribution("idc-index-data").files or ()
    except PackageNotFoundError:
        return []
    return [Path(str(one.locate())) for one in listed if fnmatch(one.name, _INDEX)]


def _write_rows(made: Fixture, source: str) -> None:
    with connect(made.folder) as connection:
        query = scale_sql.series_rows(source, made.series)
        copied = connection.execute(f"COPY ({query}) TO '{made.rows}' (FORMAT parquet, COMPRESSION zstd)")
        (count,) = copied.fetchone() or (0,)
    if count != made.series:
        raise RuntimeError(
            f"idc-index-data has {count:,} series, {made.series:,} are wanted: install {_REQUIREMENT}"
        )


# ---- the catalog


def _make_lake(made: Fixture) -> None:
    import dicomlake

    dicomlake.open(made.lake, create=True).close()
    catalog = Catalog.open(made.lake / layout.CATALOG)
    try:
        for batch in _batches(made):
            with catalog.change("ingest") as (view, v):
                _add_series(view, v, batch)
        with catalog.change("ingest") as (view, v):
            _add_studies_and_patients(view, v, made)
            journal.set_info(view, text_index._MARK, str(v))  # no job searches words, which take an hour
    finally:
        catalog.close()


def _batches(made: Fixture) -> Iterator[list[Row]]:
    """The rows, with `series_id`, some thousand at a time."""
    with connect(made.folder) as connection:
        found = connection.execute(f"SELECT * FROM '{made.rows}' ORDER BY series_id")
        names = [column[0] for column in found.description or ()]
        while rows := found.fetchmany(_BATCH):
            yield [dict(zip(names, row, strict=True)) for row in rows]


def _add_series(view: Connection, v: int, batch: Sequence[Row]) -> None:
    rows, headers = [], []
    for given in batch:
        series_id = given.pop("series_id")
        rows.append({"id": series_id} | _stamped(given, v))
        header = {"series_id": series_id, "block": header_block(given)}
        headers.append(header | {"digest": schema.row_digest(header)})
    view.execute(insert(schema.series), rows)
    view.execute(insert(schema.series_header), headers)


def _stamped(row: Row, v: int) -> Row:
    whole = row | {"v_from": v, "v_to": None}
    return whole | {"digest": schema.row_digest(whole)}


def _add_studies_and_patients(view: Connection, v: int, made: Fixture) -> None:
    """A row for each study and patient, as their first series tells of them."""
    for table, key in ((schema.study, "StudyInstanceUID"), (schema.patient, "PatientID")):
        own = [column.name for column in table.c if column.name in schema.SERIES_COLUMNS]
        facts = ", ".join(f"arg_min({name}, series_id) AS {name}" for name in own if name != key)
        query = f"SELECT {key}, {facts} FROM '{made.rows}' GROUP BY {key} ORDER BY min(series_id)"
        empty = {c.name: None for c in table.c if c.name not in (*own, "id", "v_from", "v_to", "digest")}
        with connect(made.folder) as connection:
            found = connection.execute(query)
            names = [column[0] for column in found.description or ()]
            while rows := found.fetchmany(_BATCH):
                dicts = (dict(zip(names, row, strict=True)) | empty for row in rows)
                view.execute(insert(table), [_stamped(row, v) for row in dicts])


def header_block(row: Row) -> bytes:
    """A header block of one instance that says what the row of its series says."""
    elements: dict[int, Raw] = {}
    for tag, name, vr in _ELEMENTS:
        value = row[name]
        if value not in (None, ""):
            elements[tag] = (vr, _value_field(vr, value))
    sop_uid = f"2.25.{int(hashlib.md5(row['SeriesInstanceUID'].encode()).hexdigest(), 16)}"
    elements[_SOP_INSTANCE_UID] = ("UI", sop_uid.encode())
    return blocks.pack(blocks.collect([(sop_uid, Attributes(elements, _EXPLICIT, ("ISO_IR 192",)))]))


def _value_field(vr: str, value: Any) -> bytes:
    if vr == "US":
        return int(value).to_bytes(2, "little")
    if vr == "AS":
        return b"%03dY" % int(value)
    if vr == "DS" and value == int(value):
        value = int(value)
    return str(value).encode()


_EXPLICIT = Encoding(implicit=False, big_endian=False)
_SOP_INSTANCE_UID = 0x00080018


def _elements() -> list[tuple[int, str, str]]:
    """Tag, keyword and VR of the series' columns that are elements."""
    named = ((standard.tag_of(name), name) for name in schema.SERIES_COLUMNS)
    return sorted((tag, name, standard.vr_of(tag)) for tag, name in named if tag is not None)


_ELEMENTS = _elements()
