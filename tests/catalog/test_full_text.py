"""Full text: what a search finds is what a plain scan over the texts finds, on both databases."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedCDAStorage, EncapsulatedPDFStorage
from sqlalchemy import text as sql

from dicomlake.catalog import schema, text_query
from dicomlake.catalog.documents import Hit, search, series_with
from dicomlake.catalog.snippets import snippet
from dicomlake.catalog.text_index import index_missing, unindexed
from dicomlake.errors import QueryError
from dicomlake.objects.documents import read_document
from dicomlake.records import SeriesKey
from tests import postgres
from tests.catalog.parts import Parts, parts_in
from tests.objects import ROOT, as_bytes, dataset, dicom
from tests.support import pydicom_files

# ---- a plain scan ------------------------------------------------------------------------------------


def _plain(text: str) -> list[str]:
    """Words, one character after another."""
    found = ""
    for sign in unicodedata.normalize("NFC", text):
        letters = {"ß": "ss", "ø": "o", "Ø": "o", "æ": "ae"}.get(sign)
        letters = letters or "".join(
            c for c in unicodedata.normalize("NFD", sign) if unicodedata.category(c) != "Mn"
        )
        found += letters.lower() if letters.isalnum() else " "
    return found.split()


def _german(text: str) -> str:
    lower = unicodedata.normalize("NFC", text).lower()
    for letter, spelled in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ø", "oe"), ("å", "aa")):
        lower = lower.replace(letter, spelled)
    return lower


def _holds(document: str, phrase: str, *, prefix: bool = False) -> bool:
    """Whether a document has a word or a phrase, in any spelling, within one paragraph."""
    for paragraph in document.split("\n\n"):
        for held in (_plain(paragraph), _plain(_german(paragraph))):
            for asked in (_plain(phrase), _plain(_german(phrase))):
                for start in range(len(held) - len(asked) + 1):
                    *first, last = held[start : start + len(asked)]
                    ends = last.startswith(asked[-1]) if prefix else last == asked[-1]
                    if first == asked[:-1] and ends:
                        return True
    return False


_WORDS = [
    *("Ödem", "oedem", "odem", "ODEM", "Pneumothorax", "pneumonia", "pneumo", "Straße", "strasse", "José"),
    *("jose", "Müller", "mueller", "muller", "links", "rechts", "no", "nodule", "nodules", "x-ray", "1.5"),
    *("Søren", "not", "and", "or", "e\u0301tude", "étude"),
]
_DOCUMENTS = st.lists(
    st.tuples(st.sampled_from(_WORDS), st.sampled_from([" ", ", ", "\n", "\n\n", "; ", " (", "/"])),
    min_size=1,
    max_size=9,
).map(lambda parts: "".join(word + gap for word, gap in parts).strip(" \n,;(/"))

_Asked = tuple[
    str, Callable[[str], bool], bool
]  # query, whether a document meets it, whether it looks for a word


def _term(word: str, star: bool, quoted: bool) -> _Asked:
    text = f'"{word}"' if quoted else word
    return f"{text}{'*' if star else ''}", lambda doc: _holds(doc, word, prefix=star), True


_SMALL = [word.lower() for word in _WORDS]
_TERMS = st.one_of(
    st.builds(_term, st.sampled_from(_SMALL), st.booleans(), st.booleans()),
    st.builds(lambda a, b: _term(f"{a} {b}", False, True), st.sampled_from(_SMALL), st.sampled_from(_SMALL)),
)


def _both(one: _Asked, other: _Asked, word: str) -> _Asked:
    return f"({one[0]}{word}{other[0]})", lambda doc: one[1](doc) and other[1](doc), one[2] or other[2]


def _either(one: _Asked, other: _Asked) -> _Asked:
    return f"({one[0]} OR {other[0]})", lambda doc: one[1](doc) or other[1](doc), one[2] and other[2]


def _without(one: _Asked, sign: str) -> _Asked:
    return f"{sign}{one[0]}", lambda doc: not one[1](doc), False


_QUERIES = st.recursive(
    _TERMS,
    lambda inner: st.one_of(
        st.builds(_both, inner, inner, st.sampled_from([" ", " AND "])),
        st.builds(_either, inner, inner),
        st.builds(_without, inner, st.sampled_from(["-", "NOT "])),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Sixty texts, each the ImageComments of a series of one slice: (parts, {SeriesInstanceUID: text})."""
    url = None
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        url = server.url("library")
    parts = parts_in(tmp_path_factory.mktemp("library"), url)
    texts: dict[str, str] = {}

    @settings(max_examples=60, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(_DOCUMENTS)
    def collect(text: str) -> None:
        if len(texts) < 60:
            texts[f"{ROOT}.9.{len(texts) + 1}"] = text

    collect()
    parts.take([_commented(uid, text) for uid, text in texts.items()])
    index_missing(parts.catalog, parts.storage)
    yield parts, texts
    parts.close()


def _commented(uid: str, text: str, **others: Any) -> bytes:
    facts = {"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": None, "ImageComments": text}
    return dicom(1, series=uid, size=2, **facts, **others)


def _found(parts: Parts, query: str, **how: Any) -> list[Hit]:
    with parts.catalog.read() as view:
        return search(view, query, **how)


@settings(max_examples=120, deadline=None)
@given(asked=_QUERIES)
def test_a_search_finds_what_a_plain_scan_finds(library: Any, asked: _Asked) -> None:
    parts, texts = library
    query, meets, looks_for_a_word = asked
    if not looks_for_a_word:
        with pytest.raises(QueryError, match="without any of its words"):
            _found(parts, query)
        return
    assert {hit.series for hit in _found(parts, query)} == {uid for uid, text in texts.items() if meets(text)}


@settings(max_examples=30, deadline=None)
@given(word=st.sampled_from(_SMALL), star=st.booleans())
def test_a_snippet_shows_a_place_that_meets_the_query(library: Any, word: str, star: bool) -> None:
    parts, _texts = library
    for hit in _found(parts, f"{word}{'*' if star else ''}"):
        assert _holds(hit.snippet, word, prefix=star)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40))
def test_no_text_of_a_user_breaks_the_search(library: Any, query: str) -> None:
    parts, _texts = library
    with suppress(QueryError):
        _found(parts, query)


def test_an_error_does_not_repeat_the_query() -> None:
    for query in ('planted "', "planted (", "planted )", "-planted", "planted " * 500):
        with pytest.raises(QueryError) as caught:
            text_query.parse(query)
        assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        *('"', 'a"b', "'; DROP TABLE document; --", "folded:odem", "NEAR(a b)", "^odem", "odem + links"),
        *("{a}", "a:*", "!odem", "odem <-> links", "\\", "\0odem", "odem\0", "((((", "))", "*", "-", "a AND"),
        *("%", "OR OR", "NOT", "rowid:1", "\ud800", "(" * 5000, "NOT " * 400 + "a", "a " * 600),
    ],
)
def test_what_databases_would_read_as_syntax_is_plain_text(library: Any, query: str) -> None:
    parts, texts = library
    with suppress(QueryError):
        _found(parts, query)
    assert len(_found(parts, "odem OR -odem links OR odem")) <= len(texts)


def test_hits_come_by_how_often_they_hold_the_words_and_a_limit_is_the_beginning(library: Any) -> None:
    parts, texts = library
    every = _found(parts, "odem OR pneumo*")
    truth: dict[str, float] = {}
    for uid, text in texts.items():
        held = _plain(text), _plain(_german(text))
        odem = max(words.count("odem") for words in held)
        pneumo = max(sum(word.startswith("pneumo") for word in words) for words in held)
        if odem or pneumo:
            truth[uid] = odem / (odem + 1) + pneumo / (pneumo + 1)
    assert len(set(truth.values())) > 3
    assert {hit.series: hit.score for hit in every} == pytest.approx(truth)
    assert [hit.score for hit in every] == sorted((hit.score for hit in every), reverse=True)
    assert _found(parts, "odem OR pneumo*", limit=5) == every[:5]


def test_a_condition_on_text_gives_the_series_of_all_hits(library: Any) -> None:
    parts, _texts = library
    with parts.catalog.read() as view:
        found = series_with(view, "odem -links")
    assert found == {SeriesKey(hit.study, hit.series) for hit in _found(parts, "odem -links")}
    assert found


def test_kinds_are_chosen_and_unknown_ones_refused(library: Any) -> None:
    parts, _texts = library
    assert _found(parts, "odem", kinds="description") == _found(parts, "odem")
    assert _found(parts, "odem", kinds=["report", "document"]) == []
    with pytest.raises(QueryError, match="there are description, report, document"):
        _found(parts, "odem", kinds=["letters"])


# ---- what is indexed ---------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path, catalog_url: str | None) -> Iterator[Parts]:
    """An empty lake."""
    found = parts_in(tmp_path / "lake", catalog_url)
    yield found
    found.close()


def _code(meaning: str) -> list[Dataset]:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99TEST", meaning
    return [code]


def _item(kind: str, name: str, **facts: Any) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", kind, _code(name)
    for keyword, value in facts.items():
        setattr(item, keyword, value)
    return item


def _report(uid: str, *items: Dataset) -> bytes:
    ds = dataset(1, series=uid, size=2)
    for keyword in ("PixelData", "Rows", "Columns", "ImageComments"):
        if keyword in ds:
            delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    ds.Modality, ds.SpecificCharacterSet, ds.ValueType = "SR", "ISO_IR 192", "CONTAINER"
    ds.ConceptNameCodeSequence, ds.ContentSequence = _code("Chest report"), list(items)
    return as_bytes(ds)


def test_all_text_of_a_content_tree_is_found_in_its_instance(parts: Parts) -> None:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "12.5", _code("millimetre")
    nested = _item(
        "CONTAINER", "Findings", ContentSequence=[_item("TEXT", "Lung", TextValue="Grüße\naus Köln")]
    )
    items = (
        nested,
        _item("CODE", "Side", ConceptCodeSequence=_code("Left upper lobe")),
        _item("NUM", "Diameter", MeasuredValueSequence=[measured]),
        _item("PNAME", "Observer", PersonName="Röntgen^Wilhelm"),
    )
    parts.take([_report(f"{ROOT}.1.1", *items)])
    index_missing(parts.catalog, parts.storage)
    told = ["chest report", "findings", "grusse aus koln", "gruesse aus koeln", "left upper lobe", "12.5"]
    for phrase in (*told, "diameter", "millimetre", "rontgen wilhelm", "Lung: Grüße"):
        (hit,) = _found(parts, f'"{phrase}"', kinds="report")
        assert (hit.sop, hit.kind) == (f"{ROOT}.1.1.1", "report")
    assert _found(parts, '"koln side"') == []  # no phrase goes from one field to the next


def test_reports_of_others_are_found_by_every_text_that_pydicom_reads(parts: Parts) -> None:
    objects = {
        path.name: path.read_bytes()
        for path in pydicom_files()
        if path.name in ("reportsi.dcm", "test-SR.dcm")
    }
    parts.take(list(objects.values()))
    index_missing(parts.catalog, parts.storage)
    checked = 0
    for data in objects.values():
        ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
        for element in ds.iterall():
            if element.keyword == "TextValue" and _plain(str(element.value)):
                phrase = " ".join(_plain(str(element.value).partition("\n\n")[0])[:20])
                found = {hit.sop for hit in _found(parts, f'"{phrase}"', kinds="report")}
                assert str(ds.SOPInstanceUID) in found
                checked += 1
    assert checked > 5


def test_descriptions_are_found_on_their_series_also_those_that_vary(parts: Parts) -> None:
    uid = f"{ROOT}.1.1"
    facts = {"StudyDescription": "Thorax nativ", "ProtocolName": "Routine"}
    code = _code("Computed tomography of chest")
    parts.take(
        [
            dicom(1, series=uid, ImageComments="first breath", ProcedureCodeSequence=code, **facts),
            dicom(2, series=uid, ImageComments="second breath", ProcedureCodeSequence=code, **facts),
        ]
    )
    index_missing(parts.catalog, parts.storage)
    for query in ("thorax", "routine", '"second breath"', '"first breath"', '"tomography of chest"', "small"):
        (hit,) = _found(parts, query)
        assert hit == Hit(f"{ROOT}.1", uid, None, "description", hit.snippet, hit.score)


def _document(uid: str, mime: str, data: bytes, sop_class: str) -> bytes:
    ds = dataset(1, series=uid, size=2)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.Modality, ds.MIMETypeOfEncapsulatedDocument = "DOC", mime
    ds.EncapsulatedDocument, ds.EncapsulatedDocumentLength = data + b"\0" * (len(data) % 2), len(data)
    return as_bytes(ds)


def _pdf(text: str) -> bytes:
    """The smallest PDF that shows a line (ISO 32000-1, annex H.3)."""
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode("latin-1")
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    tail = b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF"
    return out + tail % (table, len(out))


_CDA = b"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3"><title>Befund</title><component><section><text>
<paragraph>Kein Nachweis eines <content>Pneumothorax</content></paragraph><paragraph>links</paragraph>
</text></section></component></ClinicalDocument>"""


def _findings(parts: Parts) -> list[tuple[str, str, str]]:
    with parts.catalog.read() as view:
        rows = view.execute(schema.current(schema.finding)).mappings()
        return [(row["kind"], row["scope"], row["message"]) for row in rows]


def test_text_of_encapsulated_documents_is_found(parts: Parts) -> None:
    pytest.importorskip("pypdf")
    parts.take(
        [
            _document(f"{ROOT}.1.1", "application/pdf", _pdf("Kein Odem der Lunge"), EncapsulatedPDFStorage),
            _document(f"{ROOT}.2.1", "text/XML", _CDA, EncapsulatedCDAStorage),
        ]
    )
    index_missing(parts.catalog, parts.storage, read_document)
    (pdf,) = _found(parts, '"ödem der lunge"')
    assert (pdf.sop, pdf.kind) == (f"{ROOT}.1.1.1", "document")
    (cda,) = _found(parts, '"nachweis eines pneumothorax" befund')
    assert cda.snippet == "Befund Kein Nachweis eines Pneumothorax links"
    assert _found(parts, '"pneumothorax links"') == []
    assert _found(parts, "urn") == []
    assert _findings(parts) == []


def test_documents_that_cannot_be_read_are_findings_and_stop_nothing(parts: Parts) -> None:
    pytest.importorskip("pypdf")
    bomb = b'<!DOCTYPE a [<!ENTITY b "lol">]><a>&b;</a>'
    parts.take(
        [
            _document(f"{ROOT}.1.1", "application/pdf", b"%PDF-1.4 broken", EncapsulatedPDFStorage),
            _document(f"{ROOT}.2.1", "text/XML", b"<a>planted</b>", EncapsulatedCDAStorage),
            _document(f"{ROOT}.3.1", "text/XML", bomb, EncapsulatedCDAStorage),
            _document(f"{ROOT}.4.1", "model/stl", b"solid", "1.2.840.10008.5.1.4.1.1.104.3"),
            *[dicom(1, series=f"{ROOT}.5.1")],
        ]
    )
    index_missing(parts.catalog, parts.storage, read_document)
    found = _findings(parts)
    assert {(kind, scope) for kind, scope, _message in found} == {
        ("text_unreadable", f"{ROOT}.{number}.1.1") for number in (1, 2, 3, 4)
    }
    assert "planted" not in str(found)
    assert len(_found(parts, "small")) == 5


def test_without_pypdf_a_finding_says_what_to_install_until_it_is_there(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pypdf")
    parts.take([_document(f"{ROOT}.1.1", "application/pdf", _pdf("Befund"), EncapsulatedPDFStorage)])
    with monkeypatch.context() as without:
        without.setitem(__import__("sys").modules, "pypdf", None)
        index_missing(parts.catalog, parts.storage, read_document)
    assert [message for _kind, _scope, message in _findings(parts)] == [
        "is a PDF: install pypdf, then index again"
    ]
    assert index_missing(parts.catalog, parts.storage, read_document) == 0
    index_missing(parts.catalog, parts.storage, read_document, again=True)
    assert _findings(parts) == []
    assert len(_found(parts, "befund")) == 1


# ---- kept in step ------------------------------------------------------------------------------------


def test_only_series_that_settled_since_are_indexed(parts: Parts) -> None:
    parts.take([dicom(1, series=f"{ROOT}.{number}.1", size=2) for number in range(1, 6)])
    assert index_missing(parts.catalog, parts.storage) == 5
    head = parts.catalog.head()
    assert index_missing(parts.catalog, parts.storage) == 0
    assert parts.catalog.head() == head
    parts.take([dicom(1, series=f"{ROOT}.9.1", size=2)])
    with parts.catalog.read() as view:
        assert unindexed(view) == 1
    assert index_missing(parts.catalog, parts.storage) == 1


def test_a_text_that_changed_is_found_as_it_is_now_and_kept_as_it_was(parts: Parts) -> None:
    uid = f"{ROOT}.1.1"
    parts.take([_commented(uid, "before")])
    index_missing(parts.catalog, parts.storage)
    parts.take([dicom(2, series=uid, size=2, ImageComments="after")])
    index_missing(parts.catalog, parts.storage)
    assert len(_found(parts, "before after")) == 1
    with parts.catalog.read() as view:
        rows = view.execute(schema.document.select()).mappings().all()
        indexed = view.execute(sql("SELECT count(*) FROM document_text")).scalar()
    assert [row["v_to"] is None for row in rows] == [False, True]
    assert indexed == 1


def test_a_lake_that_was_never_indexed_says_so_and_an_empty_one_finds_nothing(parts: Parts) -> None:
    assert _found(parts, "small") == []
    parts.take([dicom(1, series=f"{ROOT}.1.1", size=2)])
    with pytest.raises(QueryError, match="not indexed yet"):
        _found(parts, "small")


def test_a_long_text_is_kept_as_far_as_both_databases_can(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomlake.catalog.text_index._SURE", 100)
    monkeypatch.setattr("dicomlake.catalog.text_index._MAX_LEXEMES", 2000)
    parts.take([_commented(f"{ROOT}.1.1", " ".join(f"word{number}" for number in range(1000)))])
    index_missing(parts.catalog, parts.storage)
    assert len(_found(parts, "word0")) == 1
    assert _found(parts, "word999") == []


def test_a_snippet_of_a_long_text_is_the_place_and_not_the_beginning() -> None:
    long = "x-ray 1.5 Größe, " * 300 + "\n\nKein Ödem der Lunge links. " + "and so on " * 300
    for query in ("oedem", '"der Lunge"', "absent OR lung*", "links -rechts"):
        shown = snippet(long, text_query.parse(query))
        assert "Kein Ödem der Lunge links." in shown
        assert len(shown) < 300
        assert (shown[:2], shown[-2:]) == ("… ", " …")


def test_the_text_of_a_report_is_in_no_repr() -> None:
    assert "planted" not in repr(Hit("1", "2", "3", "report", "planted", 1.0))


def test_a_phrase_of_a_single_chinese_character_is_a_word(parts: Parts) -> None:
    parts.take([_commented(f"{ROOT}.1.1", "肺炎の疑い")])
    index_missing(parts.catalog, parts.storage)
    assert len(_found(parts, "肺炎")) == 1
    assert _found(parts, "炎肺") == []


def test_words_of_a_query_are_spelled_for_each_database() -> None:
    node = text_query.parse('müller "ground glass"* -old')
    assert text_query.for_sqlite(node) == '(("mueller" OR "muller") AND "ground glass" *)'
    assert text_query.for_postgresql(node) == "((('mueller') | ('muller')) & ('ground' & 'glass':*))"
