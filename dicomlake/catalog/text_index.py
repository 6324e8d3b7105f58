"""The full-text index: which text belongs to a series, and its words as the databases search them.

The text of a series is a row of `document` each; `document_text` holds it folded (`words`), in FTS5 on
SQLite, beside a tsvector on PostgreSQL. All of it follows from the originals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    RowMapping,
    bindparam,
    column,
    delete,
    func,
    insert,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.types import ARRAY, String

from dicomlake.catalog import document_text, reader, rows, schema, writer
from dicomlake.catalog.blocks import BlockError, SeriesHeaders
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.document_text import Document, DocumentText
from dicomlake.catalog.journal import Files, set_info
from dicomlake.catalog.words import BARRIER, folded, spelled_out
from dicomlake.dicom.headers import read_header
from dicomlake.errors import DicomlakeError
from dicomlake.records import Finding, Instance, SeriesKey

ReadDocument = Callable[[bytes], Document]
INDEX = table("document_text", column("rowid"), column("folded"), column("spelled"), column("words"))

_MARK = "documents"  # the row of `info` with the newest change whose series are all indexed
_AT_ONCE = 200  # series in a change
_SURE = 50_000  # characters whose words always fit
_MAX_LEXEMES = 1_000_000  # bytes
_SQLITE = ("CREATE VIRTUAL TABLE IF NOT EXISTS document_text USING fts5(folded, spelled, tokenize='ascii')",)
_POSTGRESQL = (
    "CREATE TABLE IF NOT EXISTS document_text "
    "(rowid BIGINT PRIMARY KEY, folded TEXT NOT NULL, spelled TEXT NOT NULL, words TSVECTOR NOT NULL)",
    "CREATE INDEX IF NOT EXISTS document_text_words ON document_text USING gin (words)",
)


def index_missing(
    catalog: Catalog, storage: Files, read_document: ReadDocument | None = None, *, again: bool = False
) -> int:
    """Index the text of every series that settled since the last time; return how many texts changed.

    To be called after objects were taken in, and when a lake is opened for writing: one change for some
    hundred series. read_document: gives the document in an object (`objects.documents.read_document`);
    without it documents are left out. again: index everything anew, as after an installation of pypdf.
    What cannot be read is a finding, `text_unreadable`, and stops nothing.
    """
    changed, after = 0, 0 if again else None
    while True:
        with catalog.read() as view:
            batch = _waiting(view, _mark(view) if after is None else after)
            if not batch:
                return changed
            found = {key: _read(view, storage, i, key, read_document) for i, key, _v in batch}
        after = max(v for _i, _key, v in batch)
        with catalog.change("documents") as (connection, v):
            changed += _enter(connection, v, found)
            set_info(connection, _MARK, str(max(_mark(connection), after)))


def unindexed(view: Connection) -> int:
    """How many series settled since the index was last brought up to date."""
    held = schema.series
    query = select(func.count()).where(held.c.v_to.is_(None), held.c.v_from > _mark(view))
    return int(view.execute(query).scalar_one())


def _mark(view: Connection) -> int:
    found = view.execute(select(schema.info.c.value).where(schema.info.c.name == _MARK)).scalar()
    return int(found or 0)


def _waiting(view: Connection, after: int) -> list[tuple[int, SeriesKey, int]]:
    """The next series to index: (id, key, change that made it visible), in the order of changes."""
    held = schema.series
    columns = (held.c.id, held.c.StudyInstanceUID, held.c.SeriesInstanceUID, held.c.v_from)
    query = schema.current(held).with_only_columns(*columns).order_by(held.c.v_from, held.c.id)
    found = list(view.execute(query.where(held.c.v_from > after).limit(_AT_ONCE)))
    if len(found) == _AT_ONCE:  # all of a change, or none of it
        found += view.execute(query.where(held.c.v_from == found[-1][3], held.c.id > found[-1][0]))
    return [(int(i), SeriesKey(study, series), int(v)) for i, study, series, v in found]


_Found = tuple[list[DocumentText], list[Finding], list[str]]


def _read(
    view: Connection, storage: Files, series_id: int, key: SeriesKey, read_document: ReadDocument | None
) -> _Found:
    """The texts of a series; what could not be read; the instances whose text was looked for."""
    try:
        headers = reader.headers_of(view, series_id)
    except (BlockError, KeyError) as error:
        return [], [Finding("error", "text_unreadable", key.series_uid, f"its headers: {error}")], []
    texts = [DocumentText("description", None, document_text.description(headers))]
    findings: list[Finding] = []
    content = document_text.has_content(headers)
    documents = read_document is not None and document_text.has_document(headers)
    looked_at: list[str] = []
    if content or documents:
        for instance in reader.instances_of(view, key):
            looked_at.append(instance.sop_instance_uid)
            try:
                texts += _of_instance(headers, instance, storage, content, read_document)
            except DicomlakeError as error:
                findings.append(Finding("warning", "text_unreadable", instance.sop_instance_uid, str(error)))
    return [one for one in texts if one.text.strip()], findings, looked_at


def _of_instance(
    headers: SeriesHeaders,
    instance: Instance,
    storage: Files,
    content: bool,
    read_document: ReadDocument | None,
) -> Iterator[DocumentText]:
    uid = instance.sop_instance_uid
    if content:
        header = headers.of(uid)
        if document_text.is_cut(header):
            header = read_header(storage.get(instance.key)).dataset
        yield DocumentText("report", uid, document_text.report(header))
    elif read_document is not None:
        charset = headers.of(uid).texts("SpecificCharacterSet")
        yield DocumentText(
            "document", uid, document_text.document(read_document(storage.get(instance.key)), charset)
        )


def _enter(connection: Connection, v: int, found: Mapping[SeriesKey, _Found]) -> int:
    """Make these the texts of the series; return how many changed."""
    _make_index(connection)
    held: dict[SeriesKey, dict[DocumentText, RowMapping]] = {key: {} for key in found}
    for row in _held(connection, {key.series_uid for key in found}):
        key = SeriesKey(row["StudyInstanceUID"], row["SeriesInstanceUID"])
        if key in held:
            held[key][DocumentText(row["kind"], row["SOPInstanceUID"], row["text"])] = row
    fresh: list[dict[str, Any]] = []
    gone: list[RowMapping] = []
    for key, (texts, findings, looked_at) in found.items():
        wanted = {one._replace(text=_fitting(one.text)) for one in texts}
        fresh += [_row(key, one) for one in sorted(wanted - held[key].keys(), key=str)]
        gone += [row for one, row in held[key].items() if one not in wanted]
        for uid in looked_at:
            writer.close_findings(connection, v, uid, ("text_unreadable",))
        writer.add_findings(connection, v, findings)
    _close(connection, v, gone)
    rows.add(connection, schema.document, v, fresh)
    _index(connection, v)
    return len(fresh) + len(gone)


def _row(key: SeriesKey, one: DocumentText) -> dict[str, Any]:
    return {
        "StudyInstanceUID": key.study_uid,
        "SeriesInstanceUID": key.series_uid,
        "SOPInstanceUID": one.sop_instance_uid,
        "kind": one.kind,
        "text": one.text,
    }


def _held(connection: Connection, series_uids: Iterable[str]) -> Iterator[RowMapping]:
    held = schema.document
    for part in rows.in_parts(sorted(series_uids)):
        yield from connection.execute(
            schema.current(held).where(held.c.SeriesInstanceUID.in_(part))
        ).mappings()


def _close(connection: Connection, v: int, gone: Sequence[RowMapping]) -> None:
    rows.close(connection, schema.document, v, gone)
    for part in rows.in_parts([int(row["id"]) for row in gone]):
        connection.execute(delete(INDEX).where(INDEX.c.rowid.in_(part)))


def _index(connection: Connection, v: int) -> None:
    """Fold the texts that a change brought, and index them."""
    held = schema.document
    new = connection.execute(select(held.c.id, held.c.text).where(held.c.v_from == v, held.c.v_to.is_(None)))
    entries = [_entry(int(i), written) for i, written in new]
    if not entries:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(insert(INDEX), entries)
        return
    lexemes = func.array_to_tsvector(bindparam("lexemes", type_=ARRAY(String)))
    values = [one | {"lexemes": _lexemes(one)} for one in entries]
    connection.execute(insert(INDEX).values(words=lexemes), values)


def _entry(document_id: int, written: str) -> dict[str, Any]:
    spelled = spelled_out(written)
    return {
        "rowid": document_id,
        "folded": folded(written),
        "spelled": "" if spelled is None else folded(spelled),
    }


def _lexemes(entry: Mapping[str, Any]) -> list[str]:
    return sorted({*entry["folded"].split(), *entry["spelled"].split()} - {BARRIER})


def _fitting(written: str) -> str:
    """A text that both databases hold: a tsvector has at most 1 MB of words."""
    kept = written.replace("\0", "").encode("utf-8", "replace").decode()
    while (
        len(kept) > _SURE and sum(len(word.encode()) + 4 for word in _lexemes(_entry(0, kept))) > _MAX_LEXEMES
    ):
        kept = kept[: len(kept) // 2]
    return kept


def has_index(view: Connection) -> bool:
    """Whether anything was ever indexed."""
    return bool(inspect(view).has_table(INDEX.name))


def _make_index(connection: Connection) -> None:
    """Make the index where it is missing: in a catalog of before, or one just rebuilt."""
    statements = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
    for statement in statements:
        connection.execute(text(statement))
