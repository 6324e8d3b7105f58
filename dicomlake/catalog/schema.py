"""The tables of the catalog; how they came about is in `migrations`.

Rows are closed, not edited: `v_from` is the change that made a row, `v_to` the one that replaced it, so
"as of change N" is a condition. `digest` covers the other columns of a row but `id` and `settled`;
`verify` computes it again. Columns with names from PS3.6 hold what the element of that name holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    VARCHAR,
    BigInteger,
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
    literal_column,
    select,
)
from sqlalchemy.types import TypeEngine

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


def _text(length: int | None = None) -> TypeEngine[str]:
    """Text whose order is that of its code points on either database, so that listings and indexes agree."""
    return String(length).with_variant(VARCHAR(length, collation="C"), "postgresql")


Text = _text()
# wider than 2^31 on either database; what SQLite calls INTEGER has 64 bits, and only that may be its row id
Whole = BigInteger().with_variant(Integer(), "sqlite")


def _versioned() -> tuple[Column[Any], ...]:
    return (
        Column("v_from", Whole, nullable=False, index=True),
        Column("v_to", Whole),  # no index: it would draw SQLite away from the selective ones
        Column("digest", _text(32), nullable=False),
    )


info = Table(
    "info", metadata, Column("name", _text(64), primary_key=True), Column("value", Text, nullable=False)
)

change = Table(
    "change",
    metadata,
    Column("v", Whole, primary_key=True, autoincrement=False),
    Column("at", _text(32), nullable=False),
    Column("kind", _text(32), nullable=False),
    Column("digest", _text(32), nullable=False),
)

patient = Table(
    "patient",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("PatientID", Text, nullable=False, index=True),
    Column("IssuerOfPatientID", Text, nullable=False),
    Column("PatientName", Text),
    Column("PatientSex", Text),
    Column("PatientBirthDate", Text),
    *_versioned(),
)

study = Table(
    "study",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("StudyInstanceUID", Text, nullable=False, index=True),
    Column("PatientID", Text, nullable=False, index=True),
    Column("IssuerOfPatientID", Text, nullable=False),
    Column("StudyDate", Text),
    Column("StudyTime", Text),
    Column("StudyID", Text),
    Column("StudyDescription", Text),
    Column("AccessionNumber", Text),
    *_versioned(),
)

series = Table(
    "series",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("SeriesInstanceUID", Text, nullable=False, index=True),
    Column("StudyInstanceUID", Text, nullable=False, index=True),
    Column("IssuerOfPatientID", Text, nullable=False),
    *(Column(name, Text) for name in TEXT_FACETS),
    *(Column(name, Whole) for name in WHOLE_FACETS),
    *(Column(name, Float) for name in NUMBER_FACETS),
    Column("instances", Integer, nullable=False),
    Column("bytes", Whole, nullable=False),
    *_versioned(),
)

series_header = Table(
    "series_header",
    metadata,
    Column("series_id", Whole, primary_key=True, autoincrement=False),
    Column("block", LargeBinary, nullable=False),
    Column("digest", _text(32), nullable=False),
)

instance = Table(
    "instance",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("SOPInstanceUID", Text, nullable=False, index=True),
    Column("SOPClassUID", Text, nullable=False),
    Column("SeriesInstanceUID", Text, nullable=False),
    Column("StudyInstanceUID", Text, nullable=False),
    Column("TransferSyntaxUID", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("size", Whole, nullable=False),
    Column("sha256", _text(64), nullable=False),
    Column("dataset_sha256", _text(64), nullable=False),
    Column("conflict", Integer, nullable=False),
    # 0 from the acknowledgement until the series settles; only this and v_to ever change
    Column("settled", Integer, nullable=False),
    *_versioned(),
    Index("instance_of_series", "SeriesInstanceUID", "StudyInstanceUID").ddl_if(dialect="sqlite"),
    Index("instance_in_series", "SeriesInstanceUID").ddl_if(dialect="postgresql"),
)
is_unsettled = instance.c.settled == literal_column("0")  # as the partial index spells it
Index(
    "instance_unsettled",
    instance.c.SeriesInstanceUID,
    sqlite_where=is_unsettled,
    postgresql_where=is_unsettled,
)

volume = Table(
    "volume",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("SeriesInstanceUID", Text, nullable=False, index=True),
    Column("StudyInstanceUID", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("dims", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("affine_lps", Text),
    Column("spacing_mm", Text),
    Column("key", Text),
    Column("store_sha256", _text(64)),
    Column("info", Text, nullable=False),
    *_versioned(),
    # what follows is of schema 2; the columns from tilt_degrees on repeat what `info` and `dims` say
    Column("version", Integer, nullable=False, server_default="1"),
    Column("plan_digest", _text(32)),
    Column("tilt_degrees", Float),
    Column("gaps", Text),  # JSON [[after, position_mm, missing, …], …]
    Column("duplicates", Integer),
    Column("extra_dims", Text),  # such as "echo,time"
    Column("split_by", Text),
    Column("partial", Integer),
    Column("slices", Integer),
    Column("units", Text),
    Column("Modality", Text),
)

finding = Table(
    "finding",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("severity", _text(8), nullable=False),
    Column("kind", _text(32), nullable=False),
    Column("scope", Text, nullable=False, index=True),
    Column("message", Text, nullable=False),
    *_versioned(),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("sha256", _text(64), nullable=False, index=True),
    Column("size", Whole, nullable=False),
    Column("reason", Text, nullable=False),
    Column("origin", Text, nullable=False),
    *_versioned(),
)

label = Table(
    "label",
    metadata,
    Column("id", Whole, primary_key=True),
    # patient, study, series, instance or volume; the columns down to that level are filled
    Column("level", _text(8), nullable=False),
    Column("PatientID", Text, index=True),
    Column("IssuerOfPatientID", Text),
    Column("StudyInstanceUID", Text, index=True),
    Column("SeriesInstanceUID", Text, index=True),
    Column("SOPInstanceUID", Text, index=True),
    Column("volume", Integer),  # number within the series
    Column("name", Text, nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("number", Float),  # the value where it is a number
    Column("note", Text),
    Column("who", Text, nullable=False),
    Column("at", _text(32), nullable=False),  # ISO 8601, UTC
    *_versioned(),
)

clinical = Table(
    "clinical",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("source", Text, nullable=False, index=True),  # the name of the imported table
    Column("row", Integer, nullable=False),  # from 1, as in the table
    # one of the two is filled: the patient, in the lake or not yet, or the study that a row belongs to;
    # neither where that is unknown or could be several
    Column("PatientID", Text, index=True),
    Column("IssuerOfPatientID", Text),  # with PatientID; None: whatever the issuer is
    Column("StudyInstanceUID", Text, index=True),
    Column("name", Text, nullable=False, index=True),  # of the column
    Column("text", Text),
    Column("number", Float),
    *_versioned(),
)

document = Table(
    "document",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("StudyInstanceUID", Text, nullable=False, index=True),
    Column("SeriesInstanceUID", Text, nullable=False, index=True),
    Column("SOPInstanceUID", Text),
    Column("kind", _text(16), nullable=False),  # report, document, description
    Column("text", Text, nullable=False),
    *_versioned(),
)

cohort = Table(
    "cohort",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("name", Text, nullable=False, index=True),
    Column("query", Text, nullable=False),  # JSON
    Column("series", Integer, nullable=False),
    Column("members", LargeBinary, nullable=False),  # JSON under Zstandard
    Column("change", Whole, nullable=False),  # the newest change when it was frozen
    Column("program", _text(32), nullable=False),  # the version of dicomlake
    Column("who", Text, nullable=False),
    Column("at", _text(32), nullable=False),  # ISO 8601, UTC
    *_versioned(),
)


# What peers on the network sent and were promised: bookkeeping, of no version and in no mirror; a rebuild
# copies it from the catalog before, as no original holds it.

arrival = Table(
    "arrival",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("SOPInstanceUID", Text, nullable=False),
    Column("SeriesInstanceUID", Text, nullable=False, index=True),
    Column("StudyInstanceUID", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("size", Whole, nullable=False),  # bytes of the data set
    Column("outcome", _text(16), nullable=False),  # stored, already, conflict
    Column("calling", Text, nullable=False),
    Column("called", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("association", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("at", _text(32), nullable=False),  # ISO 8601, UTC, milliseconds
    Index("arrival_in_time", "at", "id"),
)

commitment = Table(
    "commitment",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("TransactionUID", Text, nullable=False, index=True),
    Column("calling", Text, nullable=False),  # of the requestor
    Column("called", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("association", Text, nullable=False),
    Column("at", _text(32), nullable=False),
    Column("items", Text, nullable=False),  # JSON [[SOPClassUID, SOPInstanceUID], …]
    Column("state", _text(16), nullable=False),  # open, verified, reported, failed
    Column("attempts", Integer, nullable=False),
    Column("next_at", _text(32), nullable=False),  # not before
    Column("result", Text),  # JSON
)

expectation = Table(
    "expectation",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("StudyInstanceUID", Text, nullable=False, index=True),  # or '' where it is not said
    Column("SeriesInstanceUID", Text, nullable=False, index=True),  # or '' for all of the study
    Column("source", _text(16), nullable=False),  # mpps, commitment, told
    Column("reference", Text, nullable=False),  # the UID of the MPPS or transaction, or ''
    Column("count", Integer),  # of instances
    Column("items", Text),  # JSON [SOPInstanceUID, …]
    Column("at", _text(32), nullable=False),
)

step = Table(  # performed procedure steps (MPPS); `facts` identify the patient and are in no mirror
    "step",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("SOPInstanceUID", Text, nullable=False, unique=True),  # of the step
    Column("calling", Text, nullable=False),
    Column("called", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("association", Text, nullable=False),
    Column("at", _text(32), nullable=False),  # ISO 8601, UTC, of the last message
    Column("status", _text(16), nullable=False),  # IN PROGRESS, COMPLETED, DISCONTINUED
    Column("facts", Text, nullable=False),
)

NETWORK = (arrival, commitment, expectation, step)


def _hash_texts() -> None:
    """PostgreSQL keeps no long value in a B-tree and refuses the row; a hash takes any, and finds as fast."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if all(isinstance(column.type, String) for column in index.columns) and index not in _BEGINNINGS:
                index.dialect_options["postgresql"]["using"] = "hash"


_MAX_UID = 64  # PS3.5 section 9.1; longer ones are found whole
_BEGINNINGS = tuple(
    Index(f"beginning_{column.name}", column, postgresql_where=func.length(column) <= _MAX_UID).ddl_if(
        dialect="postgresql"
    )
    for column in (series.c.SeriesInstanceUID, series.c.StudyInstanceUID, instance.c.SOPInstanceUID)
)


def begins_with(column: ColumnElement[str], beginning: str) -> ColumnElement[bool]:
    """The condition that a UID begins with some ASCII characters, as a range that an index answers."""
    end = beginning[:-1] + chr(ord(beginning[-1]) + 1)
    return and_(column >= beginning, column < end, func.length(column) <= literal_column(str(_MAX_UID)))


_hash_texts()

VERSIONED = (patient, study, series, instance, volume, finding, quarantine, label, clinical, document, cohort)
DIGESTED = (*VERSIONED, series_header, change)
# What a stretch of changes closed is found among closed rows alone; current rows are not in these indexes.
CLOSED = tuple(
    Index(
        f"closed_{table.name}",
        table.c.v_to,
        sqlite_where=table.c.v_to.is_not(None),
        postgresql_where=table.c.v_to.is_not(None),
    )
    for table in VERSIONED
)


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
    return hashlib.blake2b(_ENCODE(facts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_ENCODE = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


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


def head(connection: Connection) -> int:
    """The number of the newest change, 0 in an empty catalog."""
    return int(connection.execute(select(func.max(change.c.v))).scalar() or 0)


def identity(connection: Connection) -> str:
    """What tells this catalog from one that a rebuild made of the same objects: row ids differ."""
    return str(connection.execute(select(info.c.value).where(info.c.name == "identity")).scalar() or "")
