"""Marks from either side: checked, named, bounded, undone; what is wrong is refused and changes nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dicomlake.widgets.base import Refusal
from tests.widgets.marks_support import Marker, ct_on, noise

LINE = {"tool": "length", "plane": "axial", "index": 1, "points": [[1, 1], [5, 5]]}


@pytest.fixture
def marker() -> Marker:
    return Marker(ct_on(noise((6, 40, 50))))


BAD: dict[str, Any] = {
    "no dict": [1, 2],
    "no tool": LINE | {"tool": None},
    "a tool that is none": LINE | {"tool": "hammer"},
    "a plane that is none": LINE | {"plane": "oblique"},
    "a plane of another type": LINE | {"plane": 3},
    "a plane before the first": LINE | {"index": -1},
    "a plane beyond the last": LINE | {"index": 6},
    "no index": LINE | {"index": None},
    "an index that is true": LINE | {"index": True},
    "one point too few": LINE | {"points": [[1, 1]]},
    "one point too many": LINE | {"points": [[1, 1]] * 3},
    "points without end": LINE | {"tool": "polygon", "points": [[1, 1]] * 513},
    "a point that is none": LINE | {"points": [[1, 1], [float("nan"), 2]]},
    "a point of text": LINE | {"points": ["ab", "cd"]},
    "points of text": LINE | {"points": "ab"},
    "an id with a path": LINE | {"id": "../x"},
    "an id without end": LINE | {"id": "x" * 41},
    "another number of extras": LINE | {"extra": [0]},
    "planes that leave its own out": LINE | {"tool": "rectangle", "through": [2, 4]},
    "planes beyond the last": LINE | {"tool": "rectangle", "through": [1, 9]},
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_mark_is_refused_in_words_and_changes_nothing(marker: Marker, what: str) -> None:
    said = marker.refused("mark", mark=BAD[what])
    assert isinstance(marker.last_exception, Refusal), said
    with pytest.raises(Refusal):
        marker.marks = [LINE, BAD[what]]
    assert marker.marks == []
    assert marker.marking_state["undo"] == ""


def test_points_beyond_the_plane_are_brought_back_to_its_edge(marker: Marker) -> None:
    mark = marker.ask("mark", mark=LINE | {"points": [[-9, 3], [99, 999]]})["mark"]
    assert mark["points"] == [[-0.5, 3.0], [39.5, 49.5]]


def test_names_are_short_and_of_one_line_and_numbered(marker: Marker) -> None:
    for name in ("a\nb " * 60, "", "", "Length 1"):
        marker.ask("mark", mark=LINE | {"name": name})
    names = [mark["name"] for mark in marker.marks]
    assert names[0].startswith("a b a b")
    assert len(names[0]) <= 64
    assert names[1:] == ["Length 1", "Length 2", "Length 1"]


def test_a_mark_of_the_same_id_takes_the_place_of_the_former(marker: Marker) -> None:
    first = marker.ask("mark", mark=LINE)["mark"]
    marker.ask("mark", mark=LINE)
    marker.ask("mark", mark=first | {"points": [[1, 1], [1, 9]], "name": "new"})
    assert [mark["name"] for mark in marker.marks] == ["new", "Length 2"]
    assert marker.marks[0]["stats"]["length_mm"] == 4.0


def test_a_name_is_changed_without_measuring_again(marker: Marker, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = marker.ask("mark", mark=LINE | {"tool": "ellipse"})["mark"]
    monkeypatch.setattr(marker.stack_source, "run", lambda *_a, **_k: pytest.fail("read again"))
    marker.ask("mark", mark=mark | {"name": "liver"})
    assert marker.marks[0]["stats"] == mark["stats"]


def test_numbers_that_the_browser_sends_are_not_believed(marker: Marker) -> None:
    mark = marker.ask("mark", mark=LINE | {"stats": {"length_mm": 1e9}, "points_mm": [[0, 0, 0]]})["mark"]
    assert mark["stats"]["length_mm"] == pytest.approx(np.hypot(3, 2))
    assert len(mark["points_mm"]) == 2


def test_measuring_keeps_nothing(marker: Marker) -> None:
    assert marker.ask("measure", mark=LINE)["stats"]["length_mm"] == pytest.approx(np.hypot(3, 2))
    assert marker.marks == []


def test_every_change_is_undone_and_done_again_in_turn(marker: Marker) -> None:
    states = [[]]
    mark = marker.ask("mark", mark=LINE)["mark"]
    states.append(list(marker.marks))
    marker.ask("mark", mark=mark | {"points": [[1, 1], [9, 9]]})
    states.append(list(marker.marks))
    marker.marks = [*marker.marks, LINE | {"tool": "rectangle"}]
    states.append(list(marker.marks))
    marker.ask("unmark", ids=[mark["id"], "unknown"])
    states.append(list(marker.marks))
    assert marker.marking_state["undo"] == "Length 1 removed"
    for state in states[-2::-1]:
        marker.ask("undo")
        assert marker.marks == state
    assert marker.ask("undo") == {"did": ""}
    for state in states[1:]:
        marker.ask("redo")
        assert marker.marks == state


def test_more_marks_than_a_notebook_should_hold_are_refused(marker: Marker) -> None:
    with pytest.raises(Refusal, match="500"):
        marker.marks = [LINE] * 501


def test_two_marks_of_one_id_are_refused(marker: Marker) -> None:
    with pytest.raises(Refusal, match="one id"):
        marker.marks = [LINE | {"id": "a"}, LINE | {"id": "a"}]


def test_marks_from_many_threads_are_all_kept(marker: Marker) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(marker.add_mark, "point", [[n, n]], plane="axial", index=1) for n in range(40)]
        ids = {one.result() for one in done}
    assert {mark["id"] for mark in marker.marks} == ids
    assert len({mark["name"] for mark in marker.marks}) == 40
    while marker.undo():
        pass
    assert marker.marks == []


def test_marks_of_a_time_series_belong_to_their_time() -> None:
    values = noise((3, 4, 10, 12))
    image = ct_on(values[0]).expand_dims(time=3).copy(data=values)
    marker = Marker(
        image.assign_coords(
            instance_uid=(("time", "z"), [[f"1.2.{t}.{z}" for z in range(4)] for t in range(3)])
        )
    )
    marker.add_mark("rectangle", [[-0.5, -0.5], [9.5, 11.5]], plane="axial", index=2, extra=[1])
    assert marker.marks[0]["stats"]["mean"] == pytest.approx((values[1, 2] * 2.0 - 1000).mean())
    assert marker.rois.loc[0, "SOPInstanceUID"] == "1.2.1.2"
    assert marker.mask.dims == ("z", "y", "x")
    assert marker.mask.instance_uid.values.tolist() == [f"1.2.0.{z}" for z in range(4)]
    assert "extra" in marker.refused("mark", mark=LINE | {"extra": [3]})


def test_traits_stay_small(marker: Marker) -> None:
    turn = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    points = np.round(20 + 9 * np.column_stack([np.sin(turn), np.cos(turn)]), 2)
    marker.add_mark("freehand", points, plane="axial", index=1)
    assert len(json.dumps(marker.marks)) < 10_000


@pytest.mark.parametrize(
    "state",
    [
        {"marks": [5]},
        {"marks": [{"tool": "x", "plane": "axial"}]},
        {"mask_labels": []},
        {"mask_labels": [{"value": 999, "name": "x"}]},
    ],
)
def test_what_a_page_sends_wrongly_leaves_the_traits_as_they_were(marker: Marker, state: Any) -> None:
    """Other errors than TraitError let a refused value stay: the table of marks failed from then on."""
    marker.add_mark("length", [[1, 1], [5, 5]], plane="axial", index=1)
    before = marker.marks, marker.mask_labels
    with pytest.raises(Refusal):
        marker.set_state(state)
    assert (marker.marks, marker.mask_labels) == before
    assert len(marker.rois) == 1


def test_a_label_that_was_removed_is_there_again_when_its_stroke_is_redone(marker: Marker) -> None:
    marker.mask_labels = [*marker.mask_labels, {"value": 2}]
    marker.mask_label = 2
    painted = np.zeros(marker.stack_source.shape, bool)
    painted[2, 5:9, 5:9] = True
    marker.mask = painted
    marker.undo()
    marker.mask_labels = marker.mask_labels[:1]
    marker.redo()
    assert [one["value"] for one in marker.mask_labels] == [1, 2]
    assert [one["voxels"] for one in marker.mask_labels] == [0, 16]
