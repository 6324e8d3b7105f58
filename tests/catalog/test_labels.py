"""Labels: what is said last holds, all that was said is kept, and a rebuilt catalog says the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from dicomlake.catalog import journal, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.journal import login
from dicomlake.catalog.labels import history, labels, remove_label, set_label
from dicomlake.catalog.targets import Target
from dicomlake.errors import QueryError
from dicomlake.ingest.rebuild import rebuild_catalog
from dicomlake.records import SeriesKey
from dicomlake.storage import layout
from tests.catalog.parts import Parts, parts_in
from tests.objects import ROOT, dicom, series

ONE, TWO, OTHER = f"{ROOT}.1.1", f"{ROOT}.1.2", f"{ROOT}.2.1"
STUDY = f"{ROOT}.1"
KEY = SeriesKey(STUDY, ONE)
_BOOKKEEPING = {"id", "v_from", "v_to", "digest"}


@pytest.fixture
def parts(tmp_path: Path, catalog_url: str | None) -> Iterator[Parts]:
    """Two series of one study and patient, one of another."""
    found = parts_in(tmp_path / "lake", catalog_url)
    found.take([*series(2, ONE), *series(2, TWO), *series(1, OTHER, PatientID="second")])
    yield found
    found.close()


def _values(parts: Parts, target: Any = None, **which: Any) -> list[Any]:
    with parts.catalog.read() as view:
        return [row["value"] for row in labels(view, target, **which)]


def _said(parts: Parts, target: Any, name: str | None = None) -> list[Any]:
    with parts.catalog.read() as view:
        return [row["value"] for row in history(view, target, name)]


@pytest.mark.parametrize("value", ["good", "", "3", "true", "Größe\n2", 3, -2, 0.1, 1e30, True, False])
def test_a_value_comes_back_as_it_was_given(parts: Parts, value: Any) -> None:
    set_label(parts.catalog, parts.storage, ONE, "quality", value)
    (found,) = _values(parts, ONE)
    assert found == value
    assert type(found) is type(value)


def test_numbers_and_bools_can_be_compared_as_numbers(parts: Parts) -> None:
    for name, value in (("score", 2.5), ("usable", True), ("word", "2.5")):
        set_label(parts.catalog, parts.storage, ONE, name, value)
    with parts.catalog.read() as view:
        rows = view.execute(select(schema.label.c.name, schema.label.c.number)).all()
    assert dict(rows) == {"score": 2.5, "usable": 1.0, "word": None}


def test_a_label_names_all_that_is_above_its_target(parts: Parts) -> None:
    set_label(parts.catalog, parts.storage, f"{ONE}.2", "artefact", True)
    with parts.catalog.read() as view:
        (row,) = labels(view)
    assert [row[name] for name in ("level", "PatientID", "IssuerOfPatientID")] == ["instance", "phantom", ""]
    assert (row["StudyInstanceUID"], row["SeriesInstanceUID"], row["SOPInstanceUID"]) == (
        STUDY,
        ONE,
        f"{ONE}.2",
    )
    assert row["volume"] is None


def test_each_level_has_labels_of_its_own(parts: Parts) -> None:
    targets = [Target.patient("phantom"), STUDY, KEY, f"{ONE}.1"]
    for number, target in enumerate(targets):
        set_label(parts.catalog, parts.storage, target, "mark", number)
    assert [_values(parts, target) for target in targets] == [[0], [1], [2], [3]]
    assert _values(parts, level="study") == [1]


def test_the_patient_of_many_series_is_labelled_once(parts: Parts) -> None:
    report = set_label(parts.catalog, parts.storage, [ONE, TWO], "consent", True, level="patient")
    assert (report.changed, report.same) == (1, 0)
    assert _values(parts, OTHER, level="patient") == []
    assert _values(parts, TWO, level="patient") == [True]


def test_what_has_keys_is_labelled_as_the_series_of_them(parts: Parts) -> None:
    cohort = SimpleNamespace(keys=[KEY, SeriesKey(STUDY, TWO)])
    assert set_label(parts.catalog, parts.storage, cohort, "chosen", True).changed == 2
    assert _values(parts, SimpleNamespace(key=KEY)) == [True]


def test_a_level_below_the_target_is_refused(parts: Parts) -> None:
    with pytest.raises(QueryError, match="a study is not part of one series"):
        set_label(parts.catalog, parts.storage, STUDY, "quality", 1, level="series")


def test_a_new_value_closes_the_former_one_and_keeps_it(parts: Parts) -> None:
    set_label(parts.catalog, parts.storage, ONE, "quality", "poor", note="motion", who="reader 1")
    set_label(parts.catalog, parts.storage, ONE, "quality", "good", who="reader 2")
    with parts.catalog.read() as view:
        (now,) = labels(view, ONE)
        before, after = history(view, ONE, "quality")
    assert (now["value"], now["who"], now["note"]) == ("good", "reader 2", None)
    assert (before["value"], before["who"], before["note"]) == ("poor", "reader 1", "motion")
    assert before["change"] < after["change"]


def test_a_removal_says_who_and_when_and_is_in_force_at_no_change(parts: Parts) -> None:
    set_label(parts.catalog, parts.storage, ONE, "quality", "poor")
    report = remove_label(parts.catalog, parts.storage, [ONE, TWO], "quality", who="reader 2", note="wrong")
    assert (report.changed, report.same) == (1, 1)
    assert _values(parts) == []
    with parts.catalog.read() as view:
        removed = history(view, ONE)[-1]
        table = schema.label
        at_no_change = view.execute(select(table.c.id).where(table.c.v_from == table.c.v_to)).all()
    assert (removed["value"], removed["who"], removed["note"]) == (None, "reader 2", "wrong")
    assert len(at_no_change) == 1


def test_saying_the_same_again_changes_nothing(parts: Parts) -> None:
    set_label(parts.catalog, parts.storage, ONE, "quality", 1)
    head = parts.catalog.head()
    report = set_label(parts.catalog, parts.storage, [ONE], "quality", 1)
    assert (report.changed, report.same, parts.catalog.head()) == (0, 1, head)
    assert set_label(parts.catalog, parts.storage, ONE, "quality", 1, who="another").changed == 1


def test_what_the_lake_does_not_hold_is_listed_and_stops_nothing(parts: Parts) -> None:
    wanted = ["1.2.3", ONE, SeriesKey("9.9", ONE), Target.patient("nobody"), f"{TWO}.1"]
    report = set_label(parts.catalog, parts.storage, wanted, "seen", True)
    assert (report.changed, report.unknown) == (2, (0, 2, 3))
    with pytest.raises(QueryError, match="none of the 1 targets"):
        set_label(parts.catalog, parts.storage, "1.2.3", "seen", True)


@pytest.mark.parametrize("name", ["", "two words", "9th", "a-b", "x" * 65, "a;drop", "ok\n"])
def test_a_name_is_a_word(parts: Parts, name: str) -> None:
    with pytest.raises(QueryError, match="a label's name is"):
        set_label(parts.catalog, parts.storage, ONE, name, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, None, [1]])
def test_what_is_no_value_is_refused_without_a_file(parts: Parts, value: Any) -> None:
    with pytest.raises(QueryError, match="text, a finite number or a bool"):
        set_label(parts.catalog, parts.storage, ONE, "quality", value)
    assert list(parts.storage.list(journal.FOLDER)) == []


def test_thousands_of_targets_are_one_change(parts: Parts) -> None:
    pairs = [(f"{ROOT}.7.{of}", number) for of in (1, 2) for number in range(1, 651)]
    parts.take([dicom(number, series=uid, size=2) for uid, number in pairs])
    head = parts.catalog.head()
    uids = [f"{uid}.{number}" for uid, number in pairs]
    assert set_label(parts.catalog, parts.storage, uids, "slice", "empty").changed == 1300
    assert parts.catalog.head() == head + 1
    assert len(_values(parts, name="slice")) == 1300


def test_a_label_stays_with_its_study_when_the_patient_is_corrected(parts: Parts) -> None:
    set_label(parts.catalog, parts.storage, STUDY, "quality", "poor")
    parts.take(series(3, ONE, PatientID="corrected")[2:])
    set_label(parts.catalog, parts.storage, STUDY, "quality", "good")
    assert _values(parts, STUDY) == ["good"]
    assert _said(parts, STUDY) == ["poor", "good"]


def test_who_is_the_login_name_unless_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMLAKE_USER", "reader 7")
    assert login() == "reader 7"
    monkeypatch.delenv("DICOMLAKE_USER")
    monkeypatch.setenv("LOGNAME", "somebody")
    assert login() == "somebody"


_STEP = st.tuples(
    st.sampled_from([ONE, TWO, STUDY, f"{ONE}.1"]),
    st.sampled_from(["a", "b"]),
    st.one_of(st.none(), st.integers(-3, 3), st.sampled_from(["x", "y"]), st.booleans()),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_STEP, max_size=12))
def test_any_history_is_that_of_a_dict(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    parts = parts_in(tmp_path_factory.mktemp("lake"))
    parts.take([*series(1, ONE), *series(1, TWO)])
    truth: dict[tuple[str, str], Any] = {}
    said: dict[tuple[str, str], list[Any]] = {}
    for target, name, value in steps:
        if value is None:
            remove_label(parts.catalog, parts.storage, target, name)
        else:
            set_label(parts.catalog, parts.storage, target, name, value)
        before = truth.get((target, name))
        if (value, type(value)) != (before, type(before)):
            said.setdefault((target, name), []).append(value)
        truth[target, name] = value
    for target, name in truth:
        now = truth[target, name]
        assert _values(parts, target, name=name) == ([] if now is None else [now])
        assert _said(parts, target, name) == said.get((target, name), [])
    parts.close()


# ---- the journal -------------------------------------------------------------------------------------


def _rows(catalog: Catalog) -> list[dict[str, Any]]:
    """All rows of labels, former ones too, without what a rebuild numbers anew."""
    with catalog.read() as view:
        rows = view.execute(schema.label.select().order_by(schema.label.c.id)).mappings().all()
    return [
        {name: value for name, value in row.items() if name not in _BOOKKEEPING}
        | {"closed": row["v_to"] is not None}
        for row in rows
    ]


def _some_history(parts: Parts) -> None:
    set_label(parts.catalog, parts.storage, [ONE, TWO, STUDY], "quality", 1, who="a")
    set_label(parts.catalog, parts.storage, [TWO, f"{ONE}.1"], "quality", "zwei ß", note="n", who="b")
    remove_label(parts.catalog, parts.storage, STUDY, "quality", who="c")


def test_a_rebuilt_catalog_has_the_same_rows_of_the_same_people(parts: Parts) -> None:
    _some_history(parts)
    before = _rows(parts.catalog)
    rebuild_catalog(parts.catalog, parts.storage, show=False)
    assert len(before) == 6
    assert _rows(parts.catalog) == before


def test_a_lost_catalog_gets_its_labels_from_the_files_alone(parts: Parts, tmp_path: Path) -> None:
    _some_history(parts)
    fresh = Catalog.open(tmp_path / "fresh.sqlite")
    assert journal.replay(fresh, parts.storage) == 3
    assert _rows(fresh) == _rows(parts.catalog)
    assert journal.replay(fresh, parts.storage) == 0
    fresh.close()


def test_the_name_of_an_entry_tells_order_kind_and_content(parts: Parts) -> None:
    _some_history(parts)
    names = [key.partition("/")[2] for key in parts.storage.list(layout.ANNOTATIONS)]
    assert [name[:15] for name in names] == ["00000001-label-", "00000002-label-", "00000003-label-"]
    assert layout.ANNOTATIONS == journal.FOLDER
    assert all("phantom" not in name for name in names)


def test_a_change_that_a_crash_left_as_a_file_comes_before_the_next_one(parts: Parts) -> None:
    set_label(parts.catalog, parts.storage, ONE, "quality", 1)
    payload = {"name": "quality", "text": "2", "number": 2.0, "note": None, "who": "x", "at": "2026-01-01"}
    target = Target("series", "phantom", "", STUDY, ONE)
    journal.write(parts.storage, "label", payload | {"targets": [target.as_list()]})
    assert _values(parts, ONE) == [1]
    with parts.catalog.read() as view:
        assert [found.kind for found in journal.check(view, parts.storage)] == ["uncatalogued"]
    set_label(parts.catalog, parts.storage, ONE, "quality", 3)
    assert _said(parts, ONE) == [1, 2, 3]
    with parts.catalog.read() as view:
        assert journal.check(view, parts.storage) == []


def test_a_change_that_the_catalog_refuses_leaves_no_file(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise QueryError("no")

    monkeypatch.setattr("dicomlake.catalog.labels.apply", refuse)
    head = parts.catalog.head()
    with pytest.raises(QueryError):
        set_label(parts.catalog, parts.storage, ONE, "quality", 1)
    assert list(parts.storage.list(journal.FOLDER)) == []
    assert parts.catalog.head() == head


def test_damaged_and_missing_entries_are_named_and_stop_no_other(parts: Parts) -> None:
    _some_history(parts)
    set_label(parts.catalog, parts.storage, OTHER, "last", True)
    first, second, *_rest = parts.storage.list(journal.FOLDER)
    parts.storage.replace(first, parts.storage.get(first).replace(b'"a"', b'"z"'))
    parts.storage.delete(second)
    with parts.catalog.read() as view:
        found = journal.check(view, parts.storage)
    expected = [("annotation_damaged", first), ("annotation_missing", f"{journal.FOLDER}/00000002")]
    assert [(one.kind, one.scope) for one in found] == expected
    rebuild_catalog(parts.catalog, parts.storage, show=False)
    assert _values(parts) == [True]
    with parts.catalog.read() as view:
        kept = view.execute(select(schema.finding.c.kind).order_by(schema.finding.c.kind)).scalars().all()
    assert kept == ["annotation_damaged", "annotation_missing"]


def test_the_last_entries_are_missed_as_well(parts: Parts) -> None:
    _some_history(parts)
    *_first, last = parts.storage.list(journal.FOLDER)
    parts.storage.delete(last)
    with parts.catalog.read() as view:
        (found,) = journal.check(view, parts.storage)
    assert found.scope == f"{journal.FOLDER}/00000003"


def test_entries_of_two_writers_keep_the_order_of_their_changes(parts: Parts) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def say(number: int) -> None:
        set_label(parts.catalog, parts.storage, ONE, "turn", number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(say, range(24)))
    written = [
        json.loads(parts.storage.get(key))["payload"]["text"] for key in parts.storage.list(journal.FOLDER)
    ]
    assert [str(value) for value in _said(parts, ONE)] == written
    assert len(written) == 24
    with parts.catalog.read() as view:
        assert view.execute(select(func.count()).select_from(schema.label)).scalar() == 24


def test_no_message_or_repr_names_a_patient(parts: Parts) -> None:
    target = Target.patient("planted-name")
    with pytest.raises(QueryError) as caught:
        set_label(parts.catalog, parts.storage, target, "quality", "planted-name")
    set_label(parts.catalog, parts.storage, Target.patient("phantom"), "quality", "planted-name")
    entries = list(journal.read(parts.storage))
    assert "planted-name" not in str(caught.value) + repr(target) + repr(entries)
