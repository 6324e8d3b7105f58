"""Counts of the explorer are those of a plain loop over what pydicom reads, whatever was chosen."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pytest

from dicomlake.lake import Lake
from dicomlake.widgets.explorer.explorer import Explorer
from tests.widgets.explorer_parts import NUMBERS, TEXTS, Asker, Truth, facet_of

FACETS = [*TEXTS, *NUMBERS, "StudyDate.month"]
_EPOCH = date(1970, 1, 1)


@dataclass
class Choice:
    """What the test has chosen in a facet: values, or bins first up to stop; and series without a value."""

    values: set[str] = field(default_factory=set)
    bins: tuple[int, int] | None = None
    missing: bool = False

    @property
    def nothing(self) -> bool:
        return not self.values and self.bins is None and not self.missing


def path_of(name: str) -> str:
    return name.partition(".")[0]


def numbers(truth: dict[str, set[Any]], name: str) -> list[float]:
    """Values as a histogram has them: dates as days."""
    found = truth[path_of(name)]
    if path_of(name) == "StudyDate":
        return [(date(int(v[:4]), int(v[4:6]), int(v[6:])) - _EPOCH).days for v in found]
    return [float(v) for v in found]


def bin_of(value: float, shown: dict[str, Any]) -> int:
    """Which bin a value lies in, by its edges: a loop."""
    edges = shown["edges"]
    found = 0
    for place in range(1, len(edges) - 1):
        if value >= edges[place]:
            found = place
    return found


def meets(one: dict[str, set[Any]], name: str, choice: Choice, shown: dict[str, Any]) -> bool:
    values = one[path_of(name)]
    if choice.nothing or (choice.missing and not values):
        return True
    if name in TEXTS:
        return bool(values & choice.values)
    if choice.bins is None:
        return False
    low, high = choice.bins
    return any(low <= bin_of(value, shown) < high for value in numbers(one, name))


def brute(truth: Truth, choices: dict[str, Choice], shown: dict[str, Any], *but: str) -> list[str]:
    facets = {name: facet_of(shown, name) for name in FACETS}
    return [
        uid
        for uid, one in truth.items()
        if all(meets(one, name, choice, facets[name]) for name, choice in choices.items() if name not in but)
    ]


def expected(truth: Truth, uids: list[str], name: str, shown: dict[str, Any]) -> list[int]:
    """Series by bin: without a value, with each that is shown, with another."""
    facet = facet_of(shown, name)
    found = [0] * len(facet["now"])
    for uid in uids:
        one = truth[uid]
        if not one[path_of(name)]:
            found[0] += 1
        elif name in TEXTS:
            places = {facet["values"].index(v) + 1 if v in facet["values"] else -1 for v in one[name]}
            for place in places:
                found[place] += 1
        else:
            for place in {bin_of(v, facet) for v in numbers(one, name)}:
                found[place + 1] += 1
    return found


def check(explorer: Explorer, truth: Truth, choices: dict[str, Choice], shown: dict[str, Any]) -> None:
    met = brute(truth, choices, shown)
    assert shown["sizes"] == {
        "series": len(met),
        "studies": len({next(iter(truth[uid]["StudyInstanceUID"])) for uid in met}),
        "patients": len({next(iter(truth[uid]["PatientID"])) for uid in met}),
        "of": len(truth),
    }
    assert {one.uid for one in explorer.cohort} == set(met)
    for name in FACETS:
        others = brute(truth, choices, shown, name)
        assert facet_of(shown, name)["now"] == expected(truth, others, name, shown), name
        assert facet_of(shown, name)["total"] == expected(truth, list(truth), name, shown), name


def choose(
    luck: random.Random, asker: Asker, choices: dict[str, Choice], shown: dict[str, Any]
) -> dict[str, Any]:
    """Do something at random, as a person would; keeps what is chosen."""
    name = luck.choice(FACETS)
    choice, facet = choices.setdefault(name, Choice()), facet_of(shown, name)
    if name in TEXTS:
        value = luck.choice([None, *facet["values"]])
        if luck.random() < 0.6:
            if value is None:
                choice.missing = not choice.missing
            else:
                choice.values ^= {value}
            return asker.ask("toggle", facet=name, value=value, add=True)
        alone = Choice(set() if value is None else {value}, missing=value is None)
        choices[name] = Choice() if choice == alone else alone
        return asker.ask("toggle", facet=name, value=value, add=False)
    count = len(facet["edges"]) - 1
    first, stop = sorted(luck.sample(range(count + 1), 2)) if count else (0, 0)
    bins = (first, stop) if stop and luck.random() < 0.8 else None
    choices[name] = Choice(bins=bins, missing=luck.random() < 0.3)
    return asker.ask("brush", facet=name, bins=bins and list(bins), missing=choices[name].missing)


@pytest.mark.parametrize("seed", range(6))
def test_counts_after_any_choices_are_those_of_a_plain_loop(explored: tuple[Lake, Truth], seed: int) -> None:
    lake, truth = explored
    luck, choices = random.Random(seed), dict[str, Choice]()
    explorer = Explorer(lake, facets=FACETS)
    asker = Asker(explorer)
    shown = asker.ask("state")
    check(explorer, truth, choices, shown)
    for _ in range(7):
        if luck.random() < 0.3:
            choices.clear()
            shown = asker.ask("drop", place=-1)
        shown = choose(luck, asker, choices, shown)
        check(explorer, truth, choices, shown)
        again = Explorer(lake, facets=FACETS, query=explorer.query)
        assert Asker(again).ask("state")["facets"] == shown["facets"]
        assert again.query == explorer.query


@pytest.mark.parametrize("seed", range(4))
def test_a_row_of_the_cube_less_another_is_a_recount(explored: tuple[Lake, Truth], seed: int) -> None:
    """SliceThickness varies within series, so its own brush only guesses there; KVP and dates do not."""
    lake, truth = explored
    luck, choices = random.Random(seed), dict[str, Choice]()
    explorer = Explorer(lake, facets=FACETS)
    asker = Asker(explorer)
    shown = asker.ask("state")
    for _ in range(2):
        shown = choose(luck, asker, choices, shown)
    for active in ("KVP", "PatientAge", "StudyDate.month"):
        answer, buffers = asker.answer("cube", facet=active)
        width = answer["data"]["width"]
        sums = np.frombuffer(buffers[0], dtype=np.uint32).reshape(-1, width).astype(np.int64)
        count = len(facet_of(shown, active)["edges"]) - 1
        assert len(sums) == count + 2
        for missing in (False, True):
            first, stop = sorted(luck.sample(range(count + 1), 2))
            under = sums[stop + 1] - sums[first + 1] + missing * sums[0]
            moved = choices | {active: Choice(bins=(first, stop), missing=missing)}
            assert under[0] == len(brute(truth, moved, shown))
            for place in answer["data"]["places"]:
                name, offset, size = place["name"], place["offset"], place["size"]
                wanted = expected(truth, brute(truth, moved, shown, name), name, shown)
                assert under[offset : offset + size].tolist() == wanted, name


def test_a_cube_of_values_that_vary_counts_each_value(explored: tuple[Lake, Truth]) -> None:
    lake, truth = explored
    explorer = Explorer(lake, facets=FACETS)
    asker = Asker(explorer)
    shown = asker.ask("state")
    answer, buffers = asker.answer("cube", facet="SliceThickness")
    sums = np.frombuffer(buffers[0], dtype=np.uint32).reshape(-1, answer["data"]["width"]).astype(np.int64)
    place = next(one for one in answer["data"]["places"] if one["name"] == "ImageType")
    facet, types = facet_of(shown, "SliceThickness"), facet_of(shown, "ImageType")
    for bin_ in range(len(facet["edges"]) - 1):
        under = (sums[bin_ + 2] - sums[bin_ + 1])[place["offset"] : place["offset"] + place["size"]]
        inside = [
            u for u, one in truth.items() if any(bin_of(v, facet) == bin_ for v in one["SliceThickness"])
        ]
        assert under.tolist() == expected(truth, inside, "ImageType", shown)
        assert sum(under[1:]) >= len(inside)
    assert types["total"][1:-1]


def test_only_a_cohorts_series_count(explored: tuple[Lake, Truth]) -> None:
    lake, truth = explored
    explorer = Explorer(lake, cohort=lake.query(Modality="CT"), facets=FACETS)
    asker = Asker(explorer)
    shown = asker.ask("toggle", facet="PatientSex", value="F", add=False)
    ct = {uid: one for uid, one in truth.items() if "CT" in one["Modality"]}
    assert shown["sizes"]["of"] == len(ct)
    check(explorer, ct, {"PatientSex": Choice({"F"})}, shown)
    assert "CT" in explorer.sql


def test_a_facet_can_be_of_any_element_or_fact(explored: tuple[Lake, Truth]) -> None:
    lake, _truth = explored
    names = ["clinical.trial.ecog", "label.quality", "verdict", "instances", "ContentDate", "0018,0060"]
    shown = Asker(Explorer(lake, facets=names)).ask("state")
    for name in names:
        facet = facet_of(shown, name)
        path = facet["path"]
        assert facet["now"][0] == len(lake.query(**{f"{path}__missing": True})), name
        assert facet["now"][0] < shown["sizes"]["series"], name
    verdicts = facet_of(shown, "verdict")
    for value, count in zip(verdicts["values"], verdicts["now"][1:], strict=False):
        assert count == len(lake.query(verdict=value))


def test_a_series_with_more_values_than_rows_is_found_by_its_headers(
    explored: tuple[Lake, Truth],
) -> None:
    """One series has 70 echo times; rows only sum them up."""
    lake, _truth = explored
    explorer = Explorer(lake, facets=["EchoTime", "Modality"])
    asker = Asker(explorer)
    asker.ask("brush", facet="EchoTime", ends=["3", "3"])
    assert len(explorer.cohort) == len(lake.query(EchoTime=3)) == 1
    asker.ask("brush", facet="EchoTime", ends=["3.1", "4.4"])
    assert len(explorer.cohort) == 0
