"""The quiz: what it asks and judges, and that no truth reaches the browser before an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import dicomlake
from dicomlake.datasets import trial
from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.teaching import NOTHING, Question, Quiz, Region, quiz_from
from dicomlake.widgets.teaching.asking import says
from dicomlake.widgets.teaching.questions import judged, place_of
from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.images_support import image_on

SECRETS = ("pneumothorax", "Basal zebra opacity")


def picture(seed: int = 0) -> Viewer:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 200, (4, 20, 24)).astype(np.int16)
    return Viewer(Stack.of(xr.DataArray(values, dims=("z", "y", "x"), attrs={"modality": "CT"})))


def choices(count: int = 3) -> list[Question]:
    truths = ["pneumothorax", "effusion", "normal"]
    return [
        Question(picture, truths[n % 3], report=lambda: "Basal zebra opacity.", series_uid=f"2.25.{n}")
        for n in range(count)
    ]


class Talk:
    """What a quiz sends, and asks put to it as the browser puts them."""

    def __init__(self, quiz: Quiz) -> None:
        self.quiz, self.sent = quiz, []  # type: ignore[var-annotated]
        quiz.send = lambda content, buffers=None: self.sent.append(content)  # type: ignore[method-assign]

    def ask(self, name: str, **args: Any) -> dict[str, Any]:
        self.quiz._handle_custom_msg({"ask": name, "id": 7, "args": args}, [])
        (answer,) = [one for one in self.sent if "answer" in one][-1:]
        return answer.get("data", answer)


def held(widget: Any) -> str:
    """All that a browser holds of a widget and of its picture."""
    state = widget.get_state()
    state.pop("_esm"), state.pop("_css")
    return json.dumps(state, default=str)


# ---- judging


def test_a_mark_is_right_inside_and_so_many_millimetres_away() -> None:
    mask = np.zeros((6, 10, 10), dtype=bool)
    mask[2, 4:6, 4:6] = True
    affine = np.diag([3.0, 0.5, 2.0, 1.0])[[2, 1, 0, 3]]  # z 3 mm, y 0.5 mm, x 2 mm apart; x, y, z in rows
    region = Region(mask, affine)
    assert region.distance_mm((2, 5.4, 4)) == 0
    assert region.distance_mm((2, 5, 7)) == pytest.approx(4)  # two columns of 2 mm
    assert region.distance_mm((4, 5, 7)) == pytest.approx(np.hypot(6, 4))
    question = Question(picture, region=lambda: region)
    assert judged(question, "mark", "mark", [2, 5, 7], 5).correct is True
    assert judged(question, "mark", "mark", [4, 5, 7], 5).correct is False
    assert judged(question, "mark", NOTHING, None, 5).correct is False
    assert judged(Question(picture, region=lambda: None), "mark", NOTHING, None, 5).correct is True
    assert mask[tuple(region.middle())]


def test_the_place_of_a_mark_is_the_voxel_that_the_plane_shows_there() -> None:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    affine = np.array([[0, 0, -2, 5], [0, 2, 0, 5], [3, 0, 0, 5], [0, 0, 0, 1]], float)  # x falls: mirrored
    stack = Stack.of(image_on(affine, values, modality="CT"))
    assert set(stack.planes) == {"axial", "coronal", "sagittal"}
    for name, plane in stack.planes.items():
        shown = stack.run(name, 1, 1)[0]
        place = place_of({"plane": name, "index": 1, "point": [2, 3]}, stack.planes)
        assert place is not None, name
        assert values[tuple(np.rint(place).astype(int))] == shown[2, 3], name
        assert plane.count > 1


@pytest.mark.parametrize(
    "mark",
    [None, {}, "text", {"plane": "none", "index": 0, "point": [0, 0]}]
    + [
        {"plane": "axial", "index": 0, "point": point}
        for point in ([], [1], ["a", 2], [float("nan"), 0], None)
    ],
)
def test_what_is_no_mark_has_no_place(mark: Any) -> None:
    planes = Stack.of(xr.DataArray(np.zeros((2, 3, 4), np.int16), dims=("z", "y", "x"))).planes
    assert place_of(mark, {"axial": next(iter(planes.values()))}) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Pleural effusion on the right.", True),
        ("No pleural effusion.", False),
        ("No fracture. Pleural effusion.", True),
        ("No fracture, PLEURAL   ÉFFUSION", True),
        ("Without pleural effusion; pleural effusion earlier", True),
        ("Pleural effusions", False),
    ],
)
def test_a_phrase_counts_unless_its_sentence_denies_it(text: str, found: bool) -> None:
    assert says(text, "pleural effusion") is found


# ---- the widget


def test_no_truth_is_in_the_browser_before_the_answer(tmp_path: Path) -> None:
    quiz = Quiz(choices(6), options=["effusion", "normal", "pneumothorax"])
    talk = Talk(quiz)
    by_position = json.dumps([q.truth for q in quiz._questions])
    talk.ask("here")
    for number in (1, 2, 0):
        talk.ask("go", item=number)
        assert held(quiz).count("pneumothorax") == 1, "only as one of the options"
        assert "zebra" not in held(quiz) + held(quiz.picture) + json.dumps(talk.sent)
        assert "pneumothorax" not in held(quiz.picture) + json.dumps(talk.sent)
    assert "2.25." not in held(quiz)
    assert by_position not in held(quiz)
    revealed = talk.ask("confirm", item=0, answer="normal")["revealed"]
    assert revealed["truth"] == quiz._questions[0].truth
    assert revealed["report"] == "Basal zebra opacity."
    assert "zebra" not in held(quiz), "traits are saved with the notebook"
    assert talk.ask("go", item=1)["revealed"] is None
    assert talk.ask("go", item=0)["revealed"] == revealed


def test_answers_are_kept_with_time_and_score() -> None:
    quiz = Quiz(choices(3))
    talk = Talk(quiz)
    assert np.isnan(quiz.score)
    wrong = {"pneumothorax": "normal", "normal": "effusion", "effusion": "normal"}
    for number, question in enumerate(quiz._questions):
        talk.ask("go", item=number)
        talk.ask("confirm", item=number, answer=wrong[question.truth] if number == 1 else question.truth)
    table = quiz.progress
    assert list(table["item"]) == [1, 2, 3]
    assert list(table["correct"]) == [True, False, True]
    assert list(table["SeriesInstanceUID"]) == [q.series_uid for q in quiz._questions]
    assert list(table["truth"]) == [q.truth for q in quiz._questions]
    assert (table["seconds"] >= 0).all()
    assert quiz.score == pytest.approx(2 / 3)
    assert quiz.results == ["right", "wrong", "right"]


def test_an_answer_once_confirmed_stays() -> None:
    quiz = Quiz(choices(3))
    talk = Talk(quiz)
    first = talk.ask("confirm", item=0, answer=quiz._questions[0].truth)
    again = talk.ask("confirm", item=0, answer="normal")
    assert again == first
    assert list(quiz.progress["correct"]) == [True]


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("confirm", {"item": 0, "answer": "zebra"}, "options"),
        ("confirm", {"item": 0}, "options"),
        ("confirm", {"item": 2, "answer": "normal"}, "another item"),
        ("confirm", {"answer": "normal"}, "missing"),
        ("go", {"item": 3}, "items 1 to 3"),
        ("go", {"item": -1}, "items 1 to 3"),
        ("go", {"item": "1"}, "missing"),
        ("go", {"item": True}, "missing"),
        ("judge", {"correct": True}, "not yet given"),
    ],
)
def test_bad_asks_are_refused_and_change_nothing(name: str, args: dict[str, Any], said: str) -> None:
    quiz = Quiz(choices(3))
    assert said in Talk(quiz).ask(name, **args)["failed"]
    assert (quiz.item, quiz.results, len(quiz.progress)) == (0, ["", "", ""], 0)


def test_a_free_answer_is_right_when_it_holds_the_truth_and_else_for_the_reader_to_judge() -> None:
    quiz = Quiz([Question(picture, "lung abscess", accept=("abscess",)), Question(picture)], seed=None)
    assert quiz.kind == "text"
    talk = Talk(quiz)
    assert talk.ask("confirm", item=0, answer="An ÀBSCESS, I think")["revealed"]["correct"] is True
    assert "judged already" in talk.ask("judge", correct=False)["failed"]
    talk.ask("go", item=1)
    assert "write" in talk.ask("confirm", item=1, answer="   ")["failed"]
    assert talk.ask("confirm", item=1, answer="no idea")["revealed"]["correct"] is None
    assert quiz.results == ["right", "open"]
    assert quiz.score == 1.0
    assert talk.ask("judge", correct=False)["revealed"]["correct"] is False
    assert quiz.score == 0.5


def test_the_order_follows_from_the_seed() -> None:
    def order(seed: int | None) -> list[str]:
        return [q.series_uid for q in Quiz(choices(9), seed=seed)._questions]

    assert order(None) == [f"2.25.{n}" for n in range(9)]
    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == order(None)


def test_a_quiz_without_items_or_choice_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="needs items"):
        Quiz([])
    with pytest.raises(ValueError, match="two options"):
        Quiz([Question(picture, "normal")] * 2)
    with pytest.raises(ValueError, match="none of the options"):
        Quiz(choices(3), options=["normal", "effusion"], kind="choice")


def test_viewers_that_were_left_are_closed_but_the_last() -> None:
    made: list[Viewer] = []

    def show() -> Viewer:
        made.append(picture())
        return made[-1]

    quiz = Quiz([Question(show, t) for t in "abcd"])
    talk = Talk(quiz)
    for number in (1, 2, 3):
        talk.ask("go", item=number)
    assert [one.comm is None for one in made] == [True, True, False, False]
    assert quiz.picture is made[-1]


# ---- from a lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dicomlake.Lake]:
    folder = tmp_path_factory.mktemp("trial")
    trial.write(folder / "files", patients=3)
    with dicomlake.open(folder / "lake", create=True) as opened:
        opened.ingest(sorted((folder / "files").glob("*.dcm")), progress=False)
        yield opened


def show_series(series: Any) -> Viewer:
    return Viewer(Stack.of(series.open().image))


def test_labels_are_truths(lake: dicomlake.Lake) -> None:
    ct = list(lake.query(Modality="CT"))
    lake.set_label(ct[0], "side", "right")
    lake.set_label(ct[1], "side", "left")
    quiz = quiz_from(ct, show=show_series, label="side")
    assert {q.series_uid: q.truth for q in quiz._questions} == {ct[0].uid: "right", ct[1].uid: "left"}
    assert quiz.options == ["left", "right"]
    with pytest.raises(ValueError, match="has a truth"):
        quiz_from(ct, show=show_series, label="no_such_label")
    with pytest.raises(ValueError, match="pass one of"):
        quiz_from(ct, show=show_series, label="side", segment="Lesion")


def test_words_of_reports_are_truths_and_denied_words_are_not(lake: dicomlake.Lake) -> None:
    ct = list(lake.query(Modality="CT"))
    quiz = quiz_from(ct, show=show_series, words={"effusion": "pleural effusion"})
    truths = {q.series_uid: q.truth for q in quiz._questions}
    found = lake.query(Modality="CT", text='"pleural effusion" -"no pleural effusion"')
    by_search = {one.uid for one in found}
    assert {uid for uid, truth in truths.items() if truth == "effusion"} == by_search
    assert 0 < len(by_search) < len(ct)
    assert quiz.options == ["effusion", "none of these"]
    assert "lesion" in Talk(quiz).ask("confirm", item=0, answer="effusion")["revealed"]["report"].lower()


def test_a_lesion_is_hit_where_the_trial_put_it(lake: dicomlake.Lake, tmp_path: Path) -> None:
    made = {one.series_uid: one for one in trial.made_of(3)}
    quiz = quiz_from(lake.query(Modality="CT"), show=show_series, segment="Lesion", within_mm=2)
    assert quiz.kind == "mark"
    assert quiz.picture.tool == "point"
    truth = made[quiz._questions[0].series_uid]
    talk = Talk(quiz)
    stack = quiz.picture.stack_source
    z, y, x = np.rint(np.linalg.solve(stack.affine, [*truth.centre_mm, 1]))[:3]
    row, col, number = _displayed(stack.planes["axial"], (z, y, x))
    assert talk.ask("confirm", item=0, answer=None)["failed"]
    mark = {"plane": "axial", "index": number, "point": [row, col]}
    revealed = talk.ask("confirm", item=0, mark=mark)["revealed"]
    assert revealed["correct"] is True
    assert revealed["distance_mm"] == 0
    assert [one["name"] for one in quiz.picture.overlays] == ["Lesion"]
    talk.ask("go", item=1)
    assert quiz.picture.overlays == []
    assert talk.ask("confirm", item=1, mark={**mark, "point": [0, 0]})["revealed"]["correct"] is False
    truth = made[quiz._questions[1].series_uid]
    corner = quiz.picture.stack_source.affine @ [*_index(stack.planes["axial"], number, 0, 0), 1]
    away = np.linalg.norm(corner[:3] - truth.centre_mm) - truth.radius_mm
    assert quiz.progress["distance_mm"][1] == pytest.approx(away, abs=5.1), "to a voxel of 5 mm"


def _displayed(plane: Any, index: tuple[float, float, float]) -> tuple[float, float, int]:
    number, row, col = np.linalg.solve(np.asarray(plane.to_index), [*index, 1])[:3]
    return float(row), float(col), round(float(number))


def _index(plane: Any, number: int, row: float, col: float) -> list[float]:
    return list((np.asarray(plane.to_index) @ [number, row, col, 1])[:3])
