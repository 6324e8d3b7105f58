"""Facts beyond elements: volumes, findings, labels, clinical tables, full text; and what explains a query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest

from dicomlake.catalog import schema
from dicomlake.catalog.blocks import SeriesHeaders
from dicomlake.catalog.query import And, columns, explain, from_json, matching, parse, sql_of, to_json
from dicomlake.catalog.query.matching import Asked
from dicomlake.errors import QueryError
from tests.catalog.query_tables import fill, types_of

ATTRIBUTES = {
    "series_id": "BIGINT",
    "path": "VARCHAR",
    "vr": "VARCHAR",
    "text": "VARCHAR",
    "fold": "VARCHAR",
    "low": "DOUBLE",
    "high": "DOUBLE",
    "vm_low": "BIGINT",
    "vm_high": "BIGINT",
}


def no_headers(series_id: int) -> SeriesHeaders:
    raise AssertionError("the rows decide")


def volume(series_id: int, number: int, verdict: str, shape: list[int], **more: Any) -> dict[str, Any]:
    dims = ["z", "y", "x"] if len(shape) == 3 else ["time", "z", "y", "x"]
    row = {"series_id": series_id, "number": number, "verdict": verdict, "reason": "", "dtype": "int16"}
    row |= {"dims": json.dumps(dims), "shape": json.dumps(shape), "partial": 0, "duplicates": 0}
    return row | more


def attribute(series_id: int, path: str, text: str, low: float | None = None) -> dict[str, Any]:
    row = {"series_id": series_id, "path": path, "vr": "CS" if low is None else "DS", "text": text}
    return row | {"low": low, "high": low, "vm_low": 1, "vm_high": 1}


@pytest.fixture(scope="module")
def session() -> Iterator[duckdb.DuckDBPyConnection]:
    """Four series of three studies of two patients."""
    made = duckdb.connect()
    series = [
        {
            "series_id": i,
            "SeriesInstanceUID": f"1.{i}",
            "StudyInstanceUID": f"2.{study}",
            "PatientID": patient,
        }
        | {"IssuerOfPatientID": "", "instances": 10 * i, "bytes": i}
        for i, study, patient in ((1, 1, "p"), (2, 1, "p"), (3, 2, "p"), (4, 3, "q"))
    ]
    fill(made, "series", {"series_id": "BIGINT"} | types_of(schema.series), series)
    volumes = [
        volume(1, 0, "regular", [100, 512, 512], spacing_mm="[1.0, 0.5, 0.5]", units="HU", slices=100),
        volume(1, 1, "sheared", [90, 256, 256], spacing_mm="[3.0, 0.5, 0.5]", tilt_degrees=12.5, slices=90),
        volume(
            2, 0, "missing_slices", [7, 20, 64, 64], gaps="[[3, 1.5, 2], [9, 4.0, 1]]", split_by="echo,time"
        ),
        volume(3, 0, "none", [512, 512, 512], partial=1, extra_dims=None),
    ]
    fill(made, "volumes", {"series_id": "BIGINT"} | types_of(schema.volume), volumes)
    instances = [{"series_id": 4, "SOPInstanceUID": "4.1"}]
    fill(made, "instances", {"series_id": "BIGINT"} | types_of(schema.instance), instances)
    findings = [
        {"severity": "warning", "kind": "truncated", "scope": "4.1"},
        {"severity": "error", "kind": "mixed_patients", "scope": "2.1"},
        {"severity": "info", "kind": "conflict", "scope": "1.3"},
    ]
    fill(made, "findings", types_of(schema.finding), findings)
    labels = [
        {"level": "patient", "PatientID": "p", "name": "arm", "text": "Plačebo"},
        {"level": "study", "StudyInstanceUID": "2.3", "name": "arm", "text": "verum"},
        {"level": "instance", "SeriesInstanceUID": "1.2", "StudyInstanceUID": "2.1", "name": "quality"}
        | {"text": "3", "number": 3.0, "SOPInstanceUID": "9"},
    ]
    fill(made, "labels", types_of(schema.label), [{"IssuerOfPatientID": ""} | row for row in labels])
    clinical = [
        {"source": "trial", "row": 1, "PatientID": "p", "name": "age", "text": "61", "number": 61.0},
        {
            "source": "trial",
            "row": 2,
            "PatientID": "p",
            "StudyInstanceUID": "2.2",
            "name": "age",
            "text": "62",
        }
        | {"number": 62.0},
    ]
    fill(made, "clinical", types_of(schema.clinical), clinical)
    fill(
        made,
        "attributes",
        ATTRIBUTES,
        [
            *(attribute(i, "Modality", "CT" if i < 4 else "PT") for i in (1, 2, 3, 4)),
            *(attribute(i, "KVP", str(k), float(k)) for i, k in ((1, 80), (2, 120), (3, 120))),
            *(attribute(i, "PatientSex", "F") for i in (1, 2, 3)),
        ],
    )
    yield made
    made.close()


def search(query: str) -> list[tuple[str, str]]:
    """A description of the series 1.2, and a report of the study 2.3."""
    return [("2.1", "1.2"), ("2.3", "")] if query == "pneumothorax -fracture" else []


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"instances": (20, 30)}, [2, 3]),
        ({"bytes__gt": 3}, [4]),
        ({"verdict": "regular"}, [1]),
        ({"verdict": ["sheared", "none"]}, [1, 3]),
        ({"verdict__all": ["regular", "sheared"]}, [1]),
        ({"verdict__all": "regular"}, []),
        ({"verdict__missing": True}, [4]),
        ({"verdict__ne": "regular"}, [2, 3, 4]),
        ({"units": "HU"}, [1]),
        ({"dims": "time"}, [2]),
        ({"split_by": "echo"}, [2]),
        ({"extra_dims__missing": True}, [1, 2, 3, 4]),
        ({"shape": (None, 512, 512)}, [1, 3]),
        ({"shape": ((None, 200), 512, 512)}, [1]),
        ({"shape": (7, None, None, None)}, [2]),
        ({"shape": 512}, [1, 3]),
        ({"shape__z": (90, 110)}, [1]),
        ({"shape__time": 7}, [2]),
        ({"shape.z__ge": 500}, [3]),
        ({"spacing_mm": (2, None)}, [1]),
        ({"spacing_mm__max__le": 1}, [1]),
        ({"spacing_mm__max__all__le": 1}, []),
        ({"spacing_mm__z": 3}, [1]),
        ({"gaps": 2}, [2]),
        ({"gaps": 0}, [1, 3]),
        ({"tilt_degrees__gt": 10}, [1]),
        ({"slices": (95, None)}, [1]),
        ({"partial": True}, [3]),
        ({"volumes": 2}, [1]),
        ({"volumes": 0}, [4]),
        ({"finding": "truncated"}, [4]),
        ({"finding": "mixed_patients"}, [1, 2]),
        ({"finding__severity": ["info", "warning"]}, [3, 4]),
        ({"finding__missing": True}, []),
        ({"label__arm": "placebo"}, [1, 2, 3]),
        ({"label.arm": "*UM"}, [4]),
        ({"label__arm__exact": "placebo"}, []),
        ({"label__quality__ge": 3}, [2]),
        ({"label.quality": 3}, [2]),
        ({"label.quality__missing": True}, [1, 3, 4]),
        ({"label.o'quality": "x"}, []),
        ({"clinical.trial.age": 62}, [3]),
        ({"clinical__trial__age__lt": 62}, [1, 2, 3]),
        ({"text": "pneumothorax -fracture"}, [2, 4]),
    ],
)
def test_a_fact_finds(session: duckdb.DuckDBPyConnection, wanted: dict[str, Any], ids: list[int]) -> None:
    expression = parse(**wanted)
    found = matching(session, expression, no_headers, search)
    assert found.tolist() == ids
    assert found.dtype == np.int64
    assert from_json(to_json(expression)) == expression
    written = sql_of(expression, found, Asked(session, no_headers, search))
    assert [i for (i,) in session.execute(written).fetchall()] == ids


def test_facts_and_elements_go_together_as_text(session: duckdb.DuckDBPyConnection) -> None:
    expression = parse(
        "Modality=CT", "verdict!=none", "label.quality>=2", "shape.time=7", "text=pneumothorax -fracture"
    )
    assert matching(session, expression, no_headers, search).tolist() == [2]


def test_full_text_without_an_index_is_refused(session: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match="no full text"):
        matching(session, parse(text="x"), no_headers)


def test_columns_hold_facts(session: duckdb.DuckDBPyConnection) -> None:
    names = ["verdict", "instances", "spacing_mm.max", "label.arm", "clinical.trial.age", "dims"]
    table = columns(session, [4, 1], names, no_headers)
    assert table == {
        "verdict": [None, ("regular", "sheared")],
        "instances": [40, 10],
        "spacing_mm.max": [None, (1, 3)],
        "label.arm": ["verum", "Plačebo"],
        "clinical.trial.age": [None, 61],
        "dims": [None, ("x", "y", "z")],
    }


EVIL = [
    "'",
    "''",
    "\\'",
    "'; DROP TABLE series; --",
    "%",
    "_",
    "\\",
    "?",
    "\0",
    "\ud800",
    '"',
    "{}",
    "{0}",
    "$1",
    "]",
]


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
@pytest.mark.parametrize(
    "path", ["Modality", "PatientName", "KVP", "verdict", "label.arm", "clinical.a'b.c?d", 'label.x{}"]']
)
@pytest.mark.parametrize("suffix", ["", "__exact", "__contains", "__like", "__ne", "__ge"])
def test_no_text_breaks_out(session: duckdb.DuckDBPyConnection, path: str, suffix: str, evil: str) -> None:
    """A text that occurs nowhere finds nothing, whatever it means to SQL, to LIKE or to Python."""
    try:
        expression = parse(**{f"{path}{suffix}": evil})
    except QueryError:
        return
    found = matching(session, expression, no_headers)
    rows = session.execute(sql_of(expression, found, Asked(session, no_headers))).fetchall()
    assert [i for (i,) in rows] == found.tolist()
    if suffix in ("", "__exact", "__like") or (suffix == "__contains" and evil != "_"):
        assert found.tolist() == []
    assert len(session.execute("SELECT * FROM series").fetchall()) == 4


def test_explain_says_what_each_condition_left(session: duckdb.DuckDBPyConnection) -> None:
    told = explain(session, parse(Modality="CT", KVP=120, verdict="regular"), no_headers)
    assert [(step.alone, step.left) for step in told.steps] == [(3, 3), (2, 2), (1, 0)]
    assert told.total == 4
    assert told.emptied is told.steps[2]
    assert {one.value for one in told.near} == {"missing_slices", "none"}
    assert "verdict=regular left none." in str(told)
    assert "<td>verdict=regular</td>" in told._repr_html_()


def test_explain_offers_near_values_of_what_identifies_nobody(session: duckdb.DuckDBPyConnection) -> None:
    assert explain(session, parse(Modality="CTT"), no_headers).near[0].value == "CT"
    assert {one.value for one in explain(session, parse(KVP=100), no_headers).near} == {"80", "120"}
    assert [one.value for one in explain(session, parse(KVP=110), no_headers).near] == ["120", "80"]
    told = explain(session, parse(PatientSex="X"), no_headers)
    assert told.near == ()
    assert "X" not in str(told).replace("PatientSex", "")
    assert "=X" not in told._repr_html_()


def test_explain_of_a_query_that_finds_something_blames_nothing(session: duckdb.DuckDBPyConnection) -> None:
    told = explain(session, And(()), no_headers)
    assert told.emptied is None
    assert told.steps == ()
    assert explain(session, parse("KVP>=100"), no_headers).emptied is None


def test_json_of_another_kind_is_refused() -> None:
    for text in (
        "",
        "[]",
        "{}",
        '{"format":1,"expression":{"path":"KVP"}}',
        '{"format":9,"expression":{"and":[]}}',
    ):
        with pytest.raises(QueryError):
            from_json(text)
    assert to_json(parse("KVP>=100")) == (
        '{"expression":{"operator":"ge","path":"KVP","values":["100"]},"format":1}'
    )
