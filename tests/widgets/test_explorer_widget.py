"""The explorer's asks and traits: what they change, what they refuse, and what they never tell."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import traitlets

import dicomlake
from dicomlake.errors import QueryError
from dicomlake.lake import Lake
from dicomlake.widgets.explorer.explorer import Explorer
from tests.objects import ROOT, dicom, series
from tests.widgets.explorer_parts import Asker, Truth, facet_of

FACETS = ["Modality", "Manufacturer", "SeriesDescription", "SliceThickness", "StudyDate"]


@pytest.fixture
def lake(explored: tuple[Lake, Truth]) -> Lake:
    return explored[0]


def test_the_query_moves_the_widget_and_the_widget_the_query(lake: Lake) -> None:
    explorer = Explorer(lake, facets=FACETS)
    asker = Asker(explorer)
    explorer.query = "Modality=CT SliceThickness=(None, 1.5)"
    assert explorer.query == "Modality=CT SliceThickness=..1.5"
    assert list(explorer.cohort.ids) == list(lake.query(Modality="CT", SliceThickness=(None, 1.5)).ids)
    asker.ask("toggle", facet="Modality", value="PT", add=True)
    assert explorer.query == "Modality=CT,PT SliceThickness=..1.5"
    asker.ask("drop", place=0)
    assert explorer.query == "SliceThickness=..1.5"
    explorer.undo()
    assert explorer.query == "Modality=CT,PT SliceThickness=..1.5"
    explorer.redo()
    assert explorer.query == "SliceThickness=..1.5"
    explorer.query = ""
    assert len(explorer.cohort) == len(lake.query())


def test_a_query_that_cannot_be_typed_is_json_and_comes_back(lake: Lake) -> None:
    explorer = Explorer(lake, facets=FACETS)
    awkward = {"path": "SeriesDescription", "operator": "is", "values": ["a, b", "6\" ' x"]}
    explorer.query = json.dumps({"format": 1, "expression": awkward})
    assert json.loads(explorer.query)["expression"] == awkward
    again = Explorer(lake, facets=FACETS, query=explorer.query)
    assert again.query == explorer.query


@pytest.mark.parametrize(
    "wrong", ["Modalty=CT", "KVP=(1", "clinical.trial.nothing=1", "StudyDate>=soon", "{"]
)
def test_a_query_that_cannot_be_understood_changes_nothing(lake: Lake, wrong: str) -> None:
    explorer = Explorer(lake, facets=FACETS, query="Modality=CT")
    with pytest.raises(QueryError):
        explorer.query = wrong
    asker = Asker(explorer)
    assert asker.refused("ask", text=wrong)
    assert explorer.query == "Modality=CT"
    assert asker.ask("state")["sizes"]["series"] == len(lake.query(Modality="CT"))
    asker.ask("ask", text="Modality=PT")
    assert explorer.error == ""


@pytest.mark.parametrize(
    "text",
    [
        "Modality=CT,PT",
        "Manufacturer=siemens",
        "Manufacturer__exact=Siemens",
        "Manufacturer!=siemens",
        "SeriesDescription=t2*",
        'SeriesDescription="t2 ax"',
        "SeriesDescription__regex=^t2",
        "SliceThickness=1,2.5",
        "SliceThickness>1.25 SliceThickness<3",
        "SliceThickness__all>=2",
        "StudyDate=2023",
        "StudyDate=2023-02..2024-01 Modality=CT",
        "StudyDate>2020",
        "PatientAge=6M",
        "KVP=100",
        "KVP__missing=true or KVP=80",
        "not (Modality=CT or Modality=PT)",
        "verdict=regular",
        "label.quality=GOOD",
        "clinical.trial.ecog>=1",
        "ImageType=PRIMARY",
        "PatientSex__missing=false",
        "text=lesion",
        "SeriesDescription__missing=true",
    ],
)
def test_what_columns_in_memory_tell_is_what_the_lake_finds(lake: Lake, text: str) -> None:
    """Facets of all paths make the explorer use its own columns wherever it can."""
    paths = [
        "Modality",
        "Manufacturer",
        "SeriesDescription",
        "SliceThickness",
        "StudyDate",
        "PatientAge",
        "KVP",
    ]
    paths += ["verdict", "label.quality", "clinical.trial.ecog", "ImageType", "PatientSex"]
    explorer = Explorer(lake, facets=paths, query=text)
    asker = Asker(explorer)
    ids = explorer._engine.ids()
    assert ids.tolist() == list(explorer.cohort.ids)
    assert ids.tolist() == lake.matching(explorer._engine.history.expression).tolist()
    assert 0 < len(ids) < len(lake.query())
    assert asker.ask("state")["sizes"]["series"] == len(ids)


def test_a_click_beside_a_typed_value_keeps_all_that_it_took(lake: Lake) -> None:
    """Manufacturer=siemens takes SIEMENS and Siemens."""
    explorer = Explorer(lake, facets=FACETS, query="Manufacturer=siemens")
    asker = Asker(explorer)
    before = len(explorer.cohort)
    shown = asker.ask("toggle", facet="Manufacturer", value="GE MEDICAL SYSTEMS", add=True)
    gained = len(lake.query(Manufacturer__exact="GE MEDICAL SYSTEMS"))
    assert gained
    assert len(explorer.cohort) == before + gained
    facet = facet_of(shown, "Manufacturer")
    on = {v for v, chosen in zip(facet["values"], facet["on"][1:], strict=False) if chosen}
    assert on == {"SIEMENS", "Siemens", "GE MEDICAL SYSTEMS"}
    asker.ask("toggle", facet="Manufacturer", value="Siemens", add=True)
    assert len(explorer.cohort) == len(lake.query(Manufacturer__exact=["SIEMENS", "GE MEDICAL SYSTEMS"]))


def test_a_value_that_looks_like_a_pattern_is_taken_as_it_is(lake: Lake) -> None:
    explorer = Explorer(lake, facets=FACETS)
    Asker(explorer).ask("toggle", facet="SeriesDescription", value="T2* ax?", add=False)
    assert {str(one.facts["SeriesDescription"]) for one in explorer.cohort} == {"T2* ax?"}


# ---- reasons, gaps, names


def test_nothing_is_explained_as_the_lake_explains_it(lake: Lake) -> None:
    text = "Modality=PT ConvolutionKernel__missing=false SliceThickness=..3"
    explorer = Explorer(lake, facets=FACETS, query=text)
    asker = Asker(explorer)
    assert asker.ask("state")["sizes"]["series"] == 0
    why, true = asker.ask("explain"), explorer.cohort.explain()  # type: ignore[attr-defined]
    assert [(s["alone"], s["left"]) for s in why["steps"]] == [(s.alone, s.left) for s in true.steps]
    assert why["emptied"] == 1
    assert true.emptied == true.steps[1]
    assert why["instead"]["path"] == "ConvolutionKernel"
    assert why["instead"]["missing"] == len(lake.query(Modality="PT"))
    for place, step in enumerate(why["steps"]):
        others = [term for i, term in enumerate(text.split()) if i != place]
        assert step["without"] == len(lake.query(*others))


def test_the_map_of_gaps_counts_what_is_missing(explored: tuple[Lake, Truth]) -> None:
    lake, truth = explored
    found = Asker(Explorer(lake, facets=["Modality", "PatientSex"], columns=["PatientID"])).ask(
        "missing", by="Modality"
    )
    rows = {row["name"]: row["share"] for row in found["rows"]}
    for place, group in enumerate(found["groups"]):
        some = [one for one in truth.values() if group["label"] in one["Modality"]]
        assert group["series"] == len(some)
        lacking = sum(not one["PatientSex"] for one in some) / len(some)
        assert rows["PatientSex"][place] == pytest.approx(lacking, abs=1e-4)
        assert rows["PatientID"][place] == 0


def test_values_are_found_by_a_part_of_them(lake: Lake) -> None:
    explorer = Explorer(lake, facets=FACETS, query="Modality=CT")
    found = Asker(explorer).ask("values", facet="SeriesDescription", text="T2")
    assert set(found["values"]) == {"T2* ax?", "T2 ax", "t2 ax"}
    for value, now in zip(found["values"], found["now"], strict=True):
        assert now == len(lake.query(Modality="CT", SeriesDescription__exact=value))


def test_names_are_completed_those_in_the_lake_first(lake: Lake) -> None:
    explorer = Explorer(lake, facets=FACETS)
    asker = Asker(explorer)
    asker.ask("names", text="kvp")
    deadline = time.monotonic() + 20
    while {"news": "names", "data": {}} not in [said for said, _ in asker.said]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    found = asker.ask("names", text="ecog")["names"]
    assert found[0]["name"] == "clinical.trial.ecog"
    kvp = asker.ask("names", text="kvp")["names"]
    assert kvp[0] == {"name": "KVP", "series": len(lake.query(KVP__missing=False))}
    assert asker.ask("names", text="gantrydetectort")["names"][0] == {
        "name": "GantryDetectorTilt",
        "series": 0,
    }


# ---- what is refused


@pytest.mark.parametrize(
    ("ask", "args", "remedy"),
    [
        ("toggle", {"facet": "KVP", "value": "1"}, "add it"),
        ("toggle", {"facet": "SliceThickness", "value": "1"}, "brush"),
        ("toggle", {"facet": "Modality", "value": "XX"}, "reload"),
        ("toggle", {"facet": "Modality", "value": ["CT"]}, "reload"),
        ("brush", {"facet": "Modality", "bins": [0, 1]}, "click"),
        ("brush", {"facet": "SliceThickness", "ends": ["1,2", ""]}, "as 1.5"),
        ("brush", {"facet": "SliceThickness", "ends": ["thin", ""]}, "numbers"),
        ("cube", {"facet": "Modality"}, "no brush"),
        ("missing", {"by": "SliceThickness"}, "facet of text"),
        ("facets", {"names": ["PatientName.family"]}, "whole element"),
        ("facets", {"names": ["SourceImageSequence"]}, "sequence"),
        ("facets", {"names": ["text"]}, "search"),
        ("columns", {"names": ["Modalty"]}, "did you mean"),
        ("sort", {"path": "Modalty"}, "did you mean"),
        ("call", {"what": "share"}, "on_share"),
        ("call", {"what": "__class__"}, "nothing here"),
        ("freeze", {"name": ""}, "name"),
        ("fly", {}, "fly"),
    ],
)
def test_a_wrong_ask_is_refused_with_a_remedy(
    lake: Lake, ask: str, args: dict[str, Any], remedy: str
) -> None:
    explorer = Explorer(lake, facets=FACETS, query="Modality=CT")
    asker = Asker(explorer)
    before = asker.ask("state")
    assert remedy in asker.refused(ask, **args)
    after = asker.ask("state")
    assert after["facets"] == before["facets"]
    assert explorer.query == "Modality=CT"
    assert explorer.facets == FACETS


@pytest.mark.parametrize("seed", range(3))
def test_noise_from_a_browser_breaks_nothing(lake: Lake, seed: int) -> None:
    luck = random.Random(seed)
    explorer = Explorer(lake, facets=FACETS)
    asker = Asker(explorer)
    things: list[Any] = [
        None,
        -1,
        10**30,
        1.5,
        "x",
        [],
        ["a", 3],
        {},
        True,
        [0, 10**9],
        [3, 1],
        "SliceThickness",
        "Modality",
    ]
    names = [
        "toggle",
        "brush",
        "drop",
        "rows",
        "sort",
        "columns",
        "facets",
        "values",
        "names",
        "cube",
        "missing",
        "ask",
    ]
    for _ in range(150):
        keys = [
            "facet",
            "value",
            "bins",
            "ends",
            "missing",
            "place",
            "start",
            "count",
            "path",
            "names",
            "text",
            "by",
        ]
        asker.answer(luck.choice(names), **{key: luck.choice(things) for key in luck.sample(keys, 4)})
        explorer.facets = FACETS
    asker.ask("drop", place=-1)
    assert asker.ask("state")["sizes"]["series"] == len(lake.query())


def test_a_wrong_facet_or_column_is_refused_in_python_too(lake: Lake) -> None:
    with pytest.raises(QueryError, match="did you mean"):
        Explorer(lake, facets=["Modalty"])
    explorer = Explorer(lake, facets=FACETS)
    with pytest.raises(QueryError):
        explorer.columns = ["Modalty"]
    with pytest.raises(traitlets.TraitError):
        explorer.selected_ids = ["x"]  # type: ignore[list-item]
    assert explorer.facets == FACETS
    for state in ({"facets": ["NoSuchThing"]}, {"columns": ["NoSuchThing"]}):
        with pytest.raises(traitlets.TraitError):
            explorer.set_state(state)
    assert explorer.facets == FACETS
    assert "NoSuchThing" not in explorer.columns


# ---- buttons, privacy, a lake that changes


def test_a_cohort_is_kept_under_a_name(lake: Lake) -> None:
    explorer = Explorer(lake, facets=FACETS, query="Modality=PT")
    told = Asker(explorer).ask("freeze", name="pets")["told"]
    assert "lake.cohort('pets')" in told
    assert {key.series_uid for key in lake.cohort("pets").keys} == {
        one.uid for one in lake.query(Modality="PT")
    }
    assert "pets" in Asker(explorer).refused("freeze", name="pets")


def test_buttons_are_there_for_callbacks_alone_and_get_what_is_shown(lake: Lake) -> None:
    got: list[Any] = []

    def keep(*given: Any) -> str:
        got.append(given)
        return "done"

    calls: dict[str, Any] = dict.fromkeys(("on_freeze", "on_share", "on_view", "on_sheet"), keep)
    plain = Explorer(lake, facets=FACETS)
    assert plain.can == {"share": False, "view": False, "sheet": False, "freeze": False}
    explorer = Explorer(lake, facets=FACETS, query="Modality=PT", **calls)
    asker = Asker(explorer)
    assert "mark a row" in asker.refused("call", what="view")
    page = asker.ask("state")["page"]
    explorer.selected_ids = page["ids"][:2]
    assert asker.ask("call", what="view")["told"] == "done"
    asker.ask("call", what="sheet")
    asker.ask("call", what="share")
    asker.ask("freeze", name="n", note="why")
    view, sheet, share, freeze = got
    assert view[0].id == page["ids"][0]
    assert list(sheet[0].ids) == sorted(page["ids"][:2])
    assert list(share[0].ids) == list(lake.query(Modality="PT").ids)
    assert freeze[1:] == ("n", "why")


def test_a_series_and_a_contact_sheet_are_shown_below_one_after_the_other(tmp_path: Path) -> None:
    lake = dicomlake.open(tmp_path / "lake", create=True)
    lake.ingest(*series(3), progress=False)
    explorer = lake.explore("Modality")
    asker = Asker(explorer)
    explorer.selected_ids = asker.ask("state")["page"]["ids"][:1]
    asker.ask("call", what="view")
    viewer = explorer.viewer
    assert type(viewer).__name__ == "Viewer"
    asker.ask("call", what="sheet")
    assert type(explorer.viewer).__name__ == "ContactSheet"
    assert viewer.comm is None, "the widget that was there is closed"
    asker.ask("unview")
    assert explorer.viewer is None
    lake.close()


def test_traits_and_the_still_picture_hold_no_values_of_patients(explored: tuple[Lake, Truth]) -> None:
    lake, truth = explored
    explorer = Explorer(lake, facets=["PatientID", "Modality"], columns=["PatientID", "StudyDate"])
    Asker(explorer).ask("state")
    assert f"{len(truth):,} series" in explorer.still()
    patient = sorted({p for one in truth.values() for p in one["PatientID"]})[0]
    Asker(explorer).ask("toggle", facet="PatientID", value=patient, add=False)
    assert patient in explorer.query
    explorer.selected_ids = explorer._engine.ids()[:3].tolist()
    saved = json.dumps(
        {k: v for k, v in explorer.get_state().items() if k not in ("_esm", "_css")}, default=str
    )
    saved += explorer.still() + repr(explorer)
    patients = {p for one in truth.values() for p in one["PatientID"]}
    assert not [patient for patient in patients if patient in saved]
    assert not [uid for uid in truth if uid in saved]


def test_series_that_come_are_counted_with_the_next_ask(tmp_path: Any) -> None:
    import dicomlake

    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(1, size=4))
        explorer = Explorer(lake, facets=["Modality"], query="Modality=CT")
        asker = Asker(explorer)
        assert asker.ask("state")["sizes"]["series"] == 1
        lake.ingest(dicom(1, size=4, series=f"{ROOT}.2.1"))
        shown = asker.ask("state")
        assert shown["sizes"] == {"series": 2, "studies": 2, "patients": 1, "of": 2}
        assert facet_of(shown, "Modality")["now"] == [0, 2, 0]


def test_an_empty_lake_is_explored_without_complaint(tmp_path: Any) -> None:
    import dicomlake

    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        explorer = Explorer(lake)
        asker = Asker(explorer)
        shown = asker.ask("state")
        assert shown["sizes"] == {"series": 0, "studies": 0, "patients": 0, "of": 0}
        assert asker.ask("cube", facet="SliceThickness")["width"] > 1
        assert asker.ask("missing", by="Modality")["groups"] == []
        assert asker.ask("ask", text="Modality=CT")["page"]["rows"] == []
