"""The tables of the catalog and how they came about: numbered forward migrations.

Rows are closed, not edited: `v_from` is the change that made a row, `v_to` the one that replaced it, so
"as of change N" is a condition. `digest` covers the other columns of a row but `id` and `settled`;
`verify` computes it again. Columns with names from PS3.6 hold what the element of that name holds.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    and_,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.schema import CreateColumn

from dicomlake.errors import SchemaTooNew
from dicomlake.records import SeriesKey

metadata = MetaData()

TEXT_FACETS = (
    "PatientID",
    "PatientSex",
    "StudyDate",
    "StudyDescription",
    "AccessionNumber",
    "Modality",
    "SeriesDate",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "Laterality",
    "Manufacturer",
    "ManufacturerModelName",
    "InstitutionName",
    "StationName",
    "SOPClassUID",
    "FrameOfReferenceUID",
    "ImageType",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "PatientPosition",
)
WHOLE_FACETS = ("SeriesNumber", "Rows", "Columns")
NUMBER_FACETS = (
    "PatientAge",
    "PixelSpacing",
    "SliceThickness",
    "KVP",
    "MagneticFieldStrength",
    "RepetitionTime",
    "EchoTime",
    "FlipAngle",
)


def _versioned() -> tuple[Column[Any], ...]:
    return (
        Column("v_from", Integer, nullable=False, index=True),
        Column("v_to", Integer),  # no index: it would draw SQLite away from the selective ones
        Column("digest", String(32), nullable=False),
    )


info = Table(
    "info", metadata, Column("name", String(64), primary_key=True), Column("value", String, nullable=False)
)

change = Table(
    "change",
    metadata,
    Column("v", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("digest", String(32), nullable=False),
)

patient = Table(
    "patient",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("PatientID", String, nullable=False, index=True),
    Column("IssuerOfPatientID", String, nullable=False),
    Column("PatientName", String),
    Column("PatientSex", String),
    Column("PatientBirthDate", String),
    *_versioned(),
)

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("StudyInstanceUID", String, nullable=False, index=True),
    Column("PatientID", String, nullable=False, index=True),
    Column("IssuerOfPatientID", String, nullable=False),
    Column("StudyDate", String),
    Column("StudyTime", String),
    Column("StudyID", String),
    Column("StudyDescription", String),
    Column("AccessionNumber", String),
    *_versioned(),
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("SeriesInstanceUID", String, nullable=False, index=True),
    Column("StudyInstanceUID", String, nullable=False, index=True),
    Column("IssuerOfPatientID", String, nullable=False),
    *(Column(name, String) for name in TEXT_FACETS),
    *(Column(name, Integer) for name in WHOLE_FACETS),
    *(Column(name, Float) for name in NUMBER_FACETS),
    Column("instances", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    *_versioned(),
)

series_header = Table(
    "series_header",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("block", LargeBinary, nullable=False),
    Column("digest", String(32), nullable=False),
)

instance = Table(
    "instance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("SOPInstanceUID", String, nullable=False, index=True),
    Column("SOPClassUID", String, nullable=False),
    Column("SeriesInstanceUID", String, nullable=False),
    Column("StudyInstanceUID", String, nullable=False),
    Column("TransferSyntaxUID", String, nullable=False),
    Column("key", String, nullable=False, unique=True),
    Column("size", Integer, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("dataset_sha256", String(64), nullable=False),
    Column("conflict", Integer, nullable=False),
    # 0 from the acknowledgement until the series settles; only this and v_to ever change
    Column("settled", Integer, nullable=False),
    *_versioned(),
    Index("instance_of_series", "SeriesInstanceUID", "StudyInstanceUID"),
    Index("instance_unsettled", "settled", sqlite_where=None),
)

volume = Table(
    "volume",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("SeriesInstanceUID", String, nullable=False, index=True),
    Column("StudyInstanceUID", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("verdict", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("dims", String, nullable=False),
    Column("shape", String, nullable=False),
    Column("dtype", String, nullable=False),
    Column("affine_lps", String),
    Column("spacing_mm", String),
    Column("key", String),
    Column("store_sha256", String(64)),
    Column("info", String, nullable=False),
    *_versioned(),
    # what follows is of schema 2; the columns from tilt_degrees on repeat what `info` and `dims` say
    Column("version", Integer, nullable=False, server_default="1"),
    Column("plan_digest", String(32)),
    Column("tilt_degrees", Float),
    Column("gaps", String),  # JSON [[after, position_mm, missing, …], …]
    Column("duplicates", Integer),
    Column("extra_dims", String),  # such as "echo,time"
    Column("split_by", String),
    Column("partial", Integer),
    Column("slices", Integer),
    Column("units", String),
    Column("Modality", String),
)

finding = Table(
    "finding",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("severity", String(8), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("scope", String, nullable=False, index=True),
    Column("message", String, nullable=False),
    *_versioned(),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("size", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("origin", String, nullable=False),
    *_versioned(),
)

VERSIONED = (patient, study, series, instance, volume, finding, quarantine)
DIGESTED = (*VERSIONED, series_header, change)


def current(table: Table) -> Select[Any]:
    """The rows of a table that are in force."""
    return select(table).where(table.c.v_to.is_(None))


def of_series(table: Table, key: SeriesKey) -> ColumnElement[bool]:
    """The condition that a row belongs to a series."""
    return and_(table.c.SeriesInstanceUID == key.series_uid, table.c.StudyInstanceUID == key.study_uid)


_BOOKKEEPING = ("id", "v_from", "v_to", "digest")
SERIES_COLUMNS = tuple(c.name for c in series.c if c.name not in _BOOKKEEPING)
VOLUME_COLUMNS = tuple(c.name for c in volume.c if c.name not in (*_BOOKKEEPING, "info"))
_NOT_DIGESTED = frozenset({"id", "digest", "settled"})


def row_digest(row: Mapping[str, Any]) -> str:
    """BLAKE2b-128 of a row's columns, in hexadecimal; bytes count by their own hash."""
    facts = {
        name: hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value
        for name, value in row.items()
        if name not in _NOT_DIGESTED
    }
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _create_all(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.execute(insert(info).values(name="identity", value=secrets.token_hex(16)))


def volume_facts(dims: Sequence[str], shape: Sequence[int], info: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a volume that repeat, for queries, what its record says elsewhere."""
    sizes = dict(zip(dims, shape, strict=True))
    tilt = info.get("tilt_degrees")
    extra = [dim for dim in dims if dim not in ("z", "frame", "y", "x", "rgb")]
    gaps, split_by = info.get("gaps"), info.get("split_by")
    return {
        "tilt_degrees": None if tilt is None else float(tilt),
        "gaps": json.dumps(gaps) if gaps else None,
        "duplicates": len(info.get("duplicates") or ()),
        "extra_dims": ",".join(extra) or None,
        "split_by": ",".join(split_by) if isinstance(split_by, list | tuple) else split_by,
        "partial": int(bool(info.get("partial"))),
        "slices": sizes.get("z", sizes.get("frame")),
        "units": info.get("units"),
        "Modality": info.get("modality"),
    }


def _add_versions_of_volumes(connection: Connection) -> None:
    """Schema 2: versions of volumes, and what was found about them as columns."""
    present = {column["name"] for column in inspect(connection).get_columns("volume")}
    if "version" in present:  # a new catalog: the tables were made as they are today
        return
    known = [column for column in volume.c if column.name in present]
    old = [dict(row) for row in connection.execute(select(*known)).mappings()]
    for column in volume.c:
        if column.name not in present:
            spelled = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE volume ADD COLUMN {spelled}")
    for row in old:
        facts = volume_facts(json.loads(row["dims"]), json.loads(row["shape"]), json.loads(row["info"]))
        new = row | {"version": 1, "plan_digest": None} | facts
        if row_digest(row) == row["digest"]:  # else it was damaged, and must stay so
            new["digest"] = row_digest(new)
        connection.execute(update(volume).where(volume.c.id == row["id"]).values(new))


Migration = Callable[[Connection], None]
MIGRATIONS: tuple[Migration, ...] = (_create_all, _add_versions_of_volumes)


def version(connection: Connection) -> int:
    """The schema version of a catalog; 0 when it has no tables yet."""
    if not inspect(connection).has_table("info"):
        return 0
    found = connection.execute(select(info.c.value).where(info.c.name == "schema_version")).scalar()
    return int(found) if found is not None else 0


def require_known(found: int, migrations: tuple[Migration, ...]) -> None:
    """Raise SchemaTooNew when a catalog is newer than this program."""
    if found > len(migrations):
        raise SchemaTooNew(
            f"the catalog has schema {found}, this dicomlake knows {len(migrations)}: upgrade dicomlake"
        )


def migrate(connection: Connection, migrations: tuple[Migration, ...]) -> int:
    """Bring a catalog to the newest version, inside the caller's transaction; return the steps taken.

    Raises SchemaTooNew when it is newer than this program.
    """
    have = version(connection)
    require_known(have, migrations)
    for number, step in enumerate(migrations[have:], have + 1):
        step(connection)
        _set_version(connection, number)
    return len(migrations) - have


def _set_version(connection: Connection, number: int) -> None:
    done = connection.execute(update(info).where(info.c.name == "schema_version").values(value=str(number)))
    if done.rowcount == 0:
        connection.execute(insert(info).values(name="schema_version", value=str(number)))


def head(connection: Connection) -> int:
    """The number of the newest change, 0 in an empty catalog."""
    return int(connection.execute(select(func.max(change.c.v))).scalar() or 0)


def identity(connection: Connection) -> str:
    """What tells this catalog from one that a rebuild made of the same objects: row ids differ."""
    return str(connection.execute(select(info.c.value).where(info.c.name == "identity")).scalar() or "")
