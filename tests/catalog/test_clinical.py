"""Clinical tables: typed as they are, joined to whom they belong, now and after more has come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from dicomlake.catalog import journal, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.clinical import ClinicalReport, drop_clinical, import_clinical
from dicomlake.catalog.clinical_rows import clinical, clinical_tables, rematch
from dicomlake.errors import QueryError
from dicomlake.ingest.rebuild import rebuild_catalog
from tests.catalog.parts import Parts, parts_in
from tests.objects import ROOT, dicom


def _study(number: int, **facts: Any) -> bytes:
    return dicom(1, series=f"{ROOT}.{number}.1", size=2, **facts)


@pytest.fixture
def parts(tmp_path: Path, catalog_url: str | None) -> Iterator[Parts]:
    """007 with three studies, twin from two issuers, 12 with two studies under one accession number."""
    found = parts_in(tmp_path / "lake", catalog_url)
    found.take(
        [
            _study(1, PatientID="007", StudyDate="20200101", AccessionNumber="A1"),
            _study(2, PatientID="007", StudyDate="20200111", AccessionNumber="A2"),
            _study(3, PatientID="007", StudyDate="20210101", AccessionNumber="A3"),
            _study(4, PatientID="twin", IssuerOfPatientID="east", StudyDate="20200101", AccessionNumber="T1"),
            _study(5, PatientID="twin", IssuerOfPatientID="west", StudyDate="20200601", AccessionNumber="T2"),
            _study(6, PatientID="12", StudyDate="20200101", AccessionNumber="B1"),
            _study(7, PatientID="12", StudyDate="20200101", AccessionNumber="B1"),
        ]
    )
    yield found
    found.close()


def _take(parts: Parts, source: Any, **how: Any) -> ClinicalReport:
    return import_clinical(parts.catalog, parts.storage, "trial", source, **how)


def _table(parts: Parts) -> list[dict[str, Any]]:
    with parts.catalog.read() as view:
        return clinical(view, "trial")


def _column(parts: Parts, name: str) -> list[Any]:
    return [row[name] for row in _table(parts)]


def _csv(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "trial.csv"
    path.write_bytes(text.encode(encoding))
    return path


# ---- joining -----------------------------------------------------------------------------------------


def test_rows_belong_to_patients_and_the_report_tells_row_numbers(parts: Parts) -> None:
    report = _take(parts, [{"PatientID": one, "arm": "a"} for one in ("007", "nobody", "twin", None, "12")])
    assert (report.rows, report.matched) == (5, 2)
    assert (report.unmatched, report.ambiguous) == ((2, 4), (3,))
    assert _column(parts, "match") == ["matched", "unmatched", "ambiguous", "unmatched", "matched"]


def test_an_issuer_tells_twins_apart(parts: Parts) -> None:
    report = _take(parts, [{"PatientID": "twin", "arm": 1}, {"PatientID": "007", "arm": 2}], issuer="west")
    assert (report.matched, report.unmatched, report.ambiguous) == (1, (2,), ())
    with parts.catalog.read() as view:
        found = (
            view.execute(schema.current(schema.clinical).where(schema.clinical.c.row == 1)).mappings().all()
        )
    assert {(row["PatientID"], row["IssuerOfPatientID"]) for row in found} == {("twin", "west")}


def test_an_accession_number_names_one_study_or_is_ambiguous(parts: Parts) -> None:
    rows = [{"acc": one, "grade": 1} for one in ("A2", "B1", "none", "T1")]
    report = _take(parts, rows, on="AccessionNumber", key="acc")
    assert (report.matched, report.unmatched, report.ambiguous) == (2, (3,), (2,))
    assert _column(parts, "study") == [f"{ROOT}.2", None, None, f"{ROOT}.4"]


@pytest.mark.parametrize(
    ("day", "within", "study"),
    [
        ("2020-01-01", 0, 1),
        ("2020-01-05", 4, 1),
        ("2020-01-05", 3, None),
        ("2020-01-06", 9, None),  # as near to the one as to the other
        ("2020-01-07", 9, 2),
        ("20201230", 3, 3),
        ("3.1.2021", 3, 3),
        (None, 9999, None),
    ],
)
def test_a_date_finds_the_nearest_study_of_the_patient(
    parts: Parts, day: str | None, within: int, study: int | None
) -> None:
    _take(parts, [{"PatientID": "007", "seen": day, "x": 1}], date="seen", within_days=within)
    assert _column(parts, "study") == [study and f"{ROOT}.{study}"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    studies=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 28)), min_size=1, max_size=6),
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 28)), min_size=1, max_size=6),
    within=st.integers(0, 12),
)
def test_nearest_studies_are_those_of_a_plain_search(
    tmp_path_factory: pytest.TempPathFactory, studies: list[Any], rows: list[Any], within: int
) -> None:
    parts = parts_in(tmp_path_factory.mktemp("lake"))
    held = [(f"{ROOT}.{i}", who, day) for i, (who, day) in enumerate(studies, 1)]
    parts.take([_study(i, PatientID=w, StudyDate=f"202403{d:02}") for i, (w, d) in enumerate(studies, 1)])
    _take(
        parts,
        [{"PatientID": who, "day": date(2024, 3, day)} for who, day in rows],
        date="day",
        within_days=within,
    )
    expected = []
    for who, day in rows:
        near = [(abs(d - day), uid) for uid, w, d in held if w == who and abs(d - day) <= within]
        best = [uid for distance, uid in near if distance == min(near)[0]]
        expected.append(best[0] if len(best) == 1 else None)
    assert _column(parts, "study") == expected
    parts.close()


def test_a_patient_who_comes_later_matches(parts: Parts) -> None:
    _take(parts, [{"PatientID": "late", "arm": "b"}])
    assert _column(parts, "match") == ["unmatched"]
    parts.take([_study(20, PatientID="late")])
    assert _column(parts, "match") == ["matched"]
    with parts.catalog.read() as view:
        joined = schema.clinical.c.PatientID == schema.patient.c.PatientID
        found = view.execute(select(schema.clinical.c.text).where(joined, schema.clinical.c.name == "arm"))
        assert found.scalars().all() == ["b"]


def test_a_study_that_comes_later_takes_its_rows_and_history_is_kept(parts: Parts) -> None:
    _take(parts, [{"PatientID": "007", "seen": "2020-01-09", "x": 1}], date="seen", within_days=30)
    assert rematch(parts.catalog) == 0
    parts.take([_study(30, PatientID="007", StudyDate="20200109")])
    assert rematch(parts.catalog) == 3  # one row of three cells
    with parts.catalog.read() as view:
        rows = view.execute(select(schema.clinical.c.StudyInstanceUID, schema.clinical.c.v_to)).all()
    assert {uid for uid, v_to in rows if v_to is None} == {f"{ROOT}.30"}
    assert {uid for uid, v_to in rows if v_to is not None} == {f"{ROOT}.2"}
    assert rematch(parts.catalog) == 0


def test_a_second_issuer_that_comes_later_makes_a_row_ambiguous(parts: Parts) -> None:
    _take(parts, [{"PatientID": "007", "arm": "b"}])
    parts.take([_study(40, PatientID="007", IssuerOfPatientID="west")])
    rematch(parts.catalog)
    assert _column(parts, "match") == ["ambiguous"]
    with parts.catalog.read() as view:
        assert view.execute(schema.current(schema.clinical)).mappings().all()[0]["PatientID"] is None


# ---- types -------------------------------------------------------------------------------------------


def test_columns_of_a_csv_file_are_what_all_their_values_are(parts: Parts, tmp_path: Path) -> None:
    text = (
        "PatientID,age,site,dose,seen,died,code,mixed\n"
        "007,61,01,1.5e2,2020-02-29,true,a,1\n"
        "12,,10,-0.25,,False,,x\n"
        "\n"
        '"nobody",3,02,,1969-12-31T12:00:00,,"b, ""c""\nd",2\n'
    )
    report = _take(parts, _csv(tmp_path, text))
    kinds = {"PatientID": "text", "age": "number", "site": "text", "dose": "number", "seen": "date"}
    assert report.columns == kinds | {"died": "flag", "code": "text", "mixed": "text"}
    assert _column(parts, "age") == [61, None, 3]
    assert _column(parts, "site") == ["01", "10", "02"]
    assert _column(parts, "dose") == [150.0, -0.25, None]
    assert _column(parts, "died") == [True, False, None]
    assert _column(parts, "code") == ["a", None, 'b, "c"\nd']
    with parts.catalog.read() as view:
        cells = view.execute(
            schema.current(schema.clinical).where(schema.clinical.c.name == "seen")
        ).mappings()
        found = {row["text"]: row["number"] for row in cells}
    assert found == {"2020-02-29": (date(2020, 2, 29) - date(1970, 1, 1)).days, "1969-12-31T12:00:00": -0.5}


def test_leading_zeros_and_long_digits_survive(parts: Parts, tmp_path: Path) -> None:
    text = "PatientID,sample\n007,12345678901234567890\n12,1\n"
    assert _take(parts, _csv(tmp_path, text)).matched == 2
    assert _column(parts, "sample") == ["12345678901234567890", "1"]


def test_decimal_commas_are_numbers_where_they_can_be_nothing_else(parts: Parts, tmp_path: Path) -> None:
    text = "PatientID;dose\n007;1,5\n12;0,125\n"
    assert _take(parts, _csv(tmp_path, text)).columns["dose"] == "number"
    assert _column(parts, "dose") == [1.5, 0.125]


@pytest.mark.parametrize("values", ["1,234;2,500", "1,5;2.5", "1,234.5;7"])
def test_numbers_that_can_be_read_in_two_ways_are_refused(parts: Parts, tmp_path: Path, values: str) -> None:
    first, second = values.split(";")
    path = _csv(tmp_path, f"PatientID\tdose\n007\t{first}\n12\t{second}\n")
    with pytest.raises(QueryError, match="column dose can be read in two ways: pass decimal"):
        _take(parts, path)


def test_a_decimal_sign_that_is_told_decides(parts: Parts, tmp_path: Path) -> None:
    path = _csv(tmp_path, "PatientID\tdose\n007\t1,234\n12\t2\n")
    _take(parts, path, decimal=",")
    assert _column(parts, "dose") == [1.234, 2]


def test_encodings_are_told_or_refused(parts: Parts, tmp_path: Path) -> None:
    text = "PatientID,ort\n007,Köln\n"
    with pytest.raises(QueryError, match='not utf-8-sig: pass encoding="cp1252"'):
        _take(parts, _csv(tmp_path, text, "cp1252"))
    for encoding, how in (("cp1252", {"encoding": "cp1252"}), ("utf-8-sig", {}), ("utf-16", {})):
        _take(parts, _csv(tmp_path, text, encoding), **how)
        assert _column(parts, "ort") == ["Köln"]


def test_other_words_for_missing_are_told(parts: Parts, tmp_path: Path) -> None:
    path = _csv(tmp_path, "PatientID,age\n007,NA\n12,5\n")
    assert _take(parts, path).columns["age"] == "text"
    assert _take(parts, path, missing={"NA"}).columns["age"] == "number"
    assert _column(parts, "age") == [None, 5]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("PatientID,a\n007,1,2\n", "row 1 of trial.csv has 3 values for 2 columns"),
        ("PatientID,a,a\n007,1,2\n", "two of one name"),
        ("PatientID,\n007,1\n", "columns without a name"),
        ('PatientID,a\n007,"x"y\n', "no CSV file"),
        ("pid,a\n007,1\n", "no column PatientID"),
    ],
)
def test_a_table_that_is_none_is_refused(parts: Parts, tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(QueryError, match=told):
        _take(parts, _csv(tmp_path, text))
    assert list(parts.storage.list(journal.FOLDER)) == []


def test_a_wrong_date_is_refused_by_row_without_its_value(parts: Parts) -> None:
    rows = [{"PatientID": "007", "seen": "2020-01-01"}, {"PatientID": "12", "seen": "02/30/2020"}]
    with pytest.raises(QueryError, match="no date in 1 rows, the first of them row 2") as caught:
        _take(parts, rows, date="seen", within_days=3)
    assert "30" not in str(caught.value)


def test_a_data_frame_keeps_its_types(parts: Parts) -> None:
    frame = pd.DataFrame(
        {
            "PatientID": ["007", "12", None],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "x": [0.5, float("nan"), 2.0],
            "seen": [pd.Timestamp("2020-01-01"), pd.NaT, pd.Timestamp("2020-01-02 06:00")],
            "flag": [True, False, None],
            "word": ["1", "2", "3"],
        }
    )
    report = _take(parts, frame)
    kinds = {
        "PatientID": "text",
        "n": "number",
        "x": "number",
        "seen": "date",
        "flag": "flag",
        "word": "text",
    }
    assert report.columns == kinds
    assert _column(parts, "n") == [1, None, 3]
    assert _column(parts, "x") == [0.5, None, 2.0]
    assert _column(parts, "seen") == ["2020-01-01", None, "2020-01-02T06:00:00"]
    assert _column(parts, "word") == ["1", "2", "3"]


def test_identifiers_that_pandas_made_numbers_of_match_as_far_as_they_can(parts: Parts) -> None:
    assert _take(parts, pd.DataFrame({"PatientID": [12.0, 7.0, None], "x": 1})).unmatched == (2, 3)


def test_a_parquet_file_is_read_as_it_is(parts: Parts, tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "trial.parquet"
    query = (
        "SELECT '007' AS PatientID, 2.5 AS x, DATE '2020-02-03' AS seen, TIMESTAMP '2020-02-03 12:00' AS t"
    )
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    assert _take(parts, path).columns == {"PatientID": "text", "x": "number", "seen": "date", "t": "date"}
    (row,) = _table(parts)
    assert (row["x"], row["seen"], row["t"]) == (2.5, "2020-02-03", datetime(2020, 2, 3, 12).isoformat())
    path.write_bytes(b"PAR1 it is not")
    with pytest.raises(QueryError, match="no Parquet file"):
        _take(parts, path)


# ---- again, out, rebuilt -----------------------------------------------------------------------------


def _cells(catalog: Catalog, *, former: bool = False) -> list[tuple[Any, ...]]:
    table = schema.clinical
    names = ("source", "row", "PatientID", "StudyInstanceUID", "name", "text", "number")
    query = select(*(table.c[name] for name in names)).order_by(table.c.row, table.c.name, table.c.id)
    with catalog.read() as view:
        which = table.c.v_to.is_not(None) if former else table.c.v_to.is_(None)
        return [tuple(row) for row in view.execute(query.where(which))]


def test_taken_in_again_only_what_differs_is_replaced(parts: Parts) -> None:
    _take(parts, [{"PatientID": "007", "age": 61, "arm": "a"}, {"PatientID": "12", "age": 5, "arm": "b"}])
    report = _take(parts, [{"PatientID": "007", "age": 62, "arm": "a"}, {"PatientID": "12", "age": 5}])
    assert report.change == parts.catalog.head()
    assert [row[4:6] for row in _cells(parts.catalog, former=True)] == [("age", "61"), ("arm", "b")]
    assert _column(parts, "age") == [62, 5]
    assert _column(parts, "arm") == ["a", None]
    again = _take(parts, [{"PatientID": "007", "age": 62, "arm": "a"}, {"PatientID": "12", "age": 5}])
    assert again.change == 0


def test_a_dropped_table_is_gone_and_its_cells_are_history(parts: Parts) -> None:
    _take(parts, [{"PatientID": "007", "age": 61}])
    drop_clinical(parts.catalog, parts.storage, "trial")
    assert _cells(parts.catalog) == []
    assert len(_cells(parts.catalog, former=True)) == 2
    with pytest.raises(QueryError, match="there is no clinical table"):
        _table(parts)
    with pytest.raises(QueryError, match="there is no clinical table"):
        drop_clinical(parts.catalog, parts.storage, "trial")


def test_tables_are_listed_with_how_they_are_joined(parts: Parts) -> None:
    _take(parts, [{"acc": "A1", "x": 1}], on="AccessionNumber", key="acc")
    with parts.catalog.read() as view:
        (found,) = clinical_tables(view)
    facts = (found["table"], found["rows"], found["columns"], found["on"], found["key"])
    assert facts == ("trial", 1, ["acc", "x"], "AccessionNumber", "acc")


def test_a_rebuilt_catalog_has_the_same_cells_matched_anew(parts: Parts) -> None:
    _take(parts, [{"PatientID": "007", "seen": "2020-01-09", "x": 1.5}], date="seen", within_days=30)
    _take(parts, [{"PatientID": "007", "seen": "2020-01-09", "x": 2}], date="seen", within_days=30)
    parts.take([_study(30, PatientID="007", StudyDate="20200109")])
    rematch(parts.catalog)
    before, listed = _cells(parts.catalog), _table(parts)
    rebuild_catalog(parts.catalog, parts.storage, show=False)
    assert before[0][3] == f"{ROOT}.30"
    assert _cells(parts.catalog) == before
    assert _table(parts) == listed
    assert rematch(parts.catalog) == 0


@pytest.mark.parametrize("name", ["", "two words", "9th", "x" * 49, "a'b"])
def test_the_name_of_a_table_is_a_word(parts: Parts, name: str) -> None:
    with pytest.raises(QueryError, match="a clinical table's name is"):
        import_clinical(parts.catalog, parts.storage, name, [{"PatientID": "007"}])


@pytest.mark.parametrize(
    "how", [{"date": "d"}, {"within_days": 3}, {"date": "d", "within_days": 3, "on": "AccessionNumber"}]
)
def test_a_join_that_is_half_told_is_refused(parts: Parts, how: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match="belong together"):
        _take(parts, [{"PatientID": "007", "AccessionNumber": "A1", "d": "2020-01-01"}], **how)


def test_a_report_holds_no_value_of_the_table(parts: Parts) -> None:
    report = _take(parts, [{"PatientID": "planted-id", "note": "planted-note"}])
    assert "planted" not in repr(report) + str(report)


def test_nothing_is_matched_again_where_no_series_came(parts: Parts) -> None:
    """A lake is opened often; and rows that were damaged must stay so, to be found by `verify`."""
    parts.take([dicom(1, series=f"{ROOT}.1.1", size=2, AccessionNumber="one")])
    for table in ("a", "b"):
        import_clinical(
            parts.catalog, parts.storage, table, [{"AccessionNumber": "one", "x": 1}], on="AccessionNumber"
        )
    before = parts.catalog.head()
    assert rematch(parts.catalog) == 0
    assert parts.catalog.head() == before
    parts.take([dicom(1, series=f"{ROOT}.2.1", size=2, AccessionNumber="two")])
    assert rematch(parts.catalog) == 0
    seen = parts.catalog.head()
    assert rematch(parts.catalog) == 0
    assert parts.catalog.head() == seen
