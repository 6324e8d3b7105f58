"""The query as one types it: what is read, what is written, and that both are the same."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dicomlake.catalog.query import And, Condition, Expression, Not, Or, parse_text
from dicomlake.errors import QueryError
from dicomlake.widgets.explorer import bins, wording

CT, MR, KVP_80 = parse_text("Modality=CT"), parse_text("Modality=MR"), parse_text("KVP=80")


def described(text: str) -> Condition:
    return Condition("SeriesDescription", "is", (text,))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Modality=CT", (Condition("Modality", "is", ("CT",)),)),
        ("SliceThickness=(0, 1.5)", (parse_text("SliceThickness=0..1.5"),)),
        ("SliceThickness=(None, 1.5)", (parse_text("SliceThickness=..1.5"),)),
        ("Modality=CT  KVP>=100", (parse_text("Modality=CT"), parse_text("KVP>=100"))),
        ("Modality=CT and KVP>=100", (parse_text("Modality=CT"), parse_text("KVP>=100"))),
        ("Modality=CT or Modality=MR KVP=80", (Or((CT, And((MR, KVP_80)))),)),
        ("(Modality=CT or Modality=MR) KVP=80", (Or((CT, MR)), KVP_80)),
        ("not Modality=CT", (Not(parse_text("Modality=CT")),)),
        ('SeriesDescription="chest (ax), thin"', (described("chest (ax), thin"),)),
        ("'SeriesDescription=chest ax'", (described("chest ax"),)),
        ("SeriesDescription=patient\\'s", (described("patient's"),)),
        ("(0018,0060)=80", (parse_text("KVP=80"),)),
        ("", ()),
        ('0019,xx0C["SIEMENS MR HEADER"]=5', (parse_text('0019,xx0C["SIEMENS MR HEADER"]=5'),)),
    ],
)  # fmt: skip
def test_a_text_is_read_as_what_it_says(text: str, wanted: tuple[Expression, ...]) -> None:
    assert wording.normal(wording.read(text)) == wording.normal(wanted)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("Modality", "Keyword=value"),
        ("Modalty=CT", "did you mean Modality"),
        ('SeriesDescription="ax', "close it"),
        ("SeriesDescription=patient's", "write \\\\'"),
        ("(Modality=CT", "close it"),
        ("Modality=CT)", "remove it"),
        ("Modality=CT or", "between two conditions"),
        ("not", "before a condition"),
        ("(" * 60 + "Modality=CT" + ")" * 60, "fewer"),
        ("Modality=CT " * 3000, "at most"),
        ('{"format": 99}', "no query|upgrade"),
    ],
)
def test_a_text_that_says_nothing_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(QueryError, match=remedy):
        wording.read(text)


_VALUES = [
    "CT",
    "a b",
    "a,b",
    "it's",
    '6" film',
    "both ' and \"",
    "T2*",
    "(x",
    "x)",
    "or",
    "a..b",
    "\\",
    "ü",
    "=",
    "~x",
]


def _condition(luck: random.Random) -> Condition:
    kind = luck.randrange(6)
    if kind == 0:
        return Condition("SliceThickness", "between", (luck.choice([None, 0.5, 1]), luck.choice([2, 2.5])))
    if kind == 1:
        return Condition(luck.choice(["KVP", "StudyDate"]), luck.choice(["ge", "lt"]), (2020,))
    if kind == 2:
        return Condition("PatientSex", "missing", (luck.random() < 0.5,))
    operator = luck.choice(["is", "is", "contains", "startswith", "regex"])
    values = luck.sample(_VALUES, 1 if operator == "regex" else luck.randrange(1, 4))
    exact = operator == "is" and luck.random() < 0.4
    return Condition("SeriesDescription", operator, tuple(values), exact=exact)  # type: ignore[arg-type]


def _expression(luck: random.Random, depth: int = 2) -> Expression:
    kind = luck.randrange(5) if depth else 0
    if kind == 1:
        return Not(_expression(luck, depth - 1))
    if kind in (2, 3):
        join = Or if kind == 2 else And
        return join(tuple(_expression(luck, depth - 1) for _ in range(luck.randrange(2, 4))))
    return _condition(luck)


def test_what_is_written_is_read_as_the_same() -> None:
    luck, plain = random.Random(3), 0
    for _ in range(400):
        terms = wording.terms_of(And(tuple(_expression(luck) for _ in range(luck.randrange(0, 4)))))
        text = wording.write(terms)
        assert wording.normal(wording.read(text)) == wording.normal(terms)
        plain += not text.startswith("{")
    assert plain > 280  # JSON is for what cannot be typed


# ---- bins


@pytest.mark.parametrize("seed", range(20))
def test_a_brush_over_bins_asks_for_their_values_and_no_others(seed: int) -> None:
    luck = np.random.default_rng(seed)
    values = np.round(luck.gamma(2, 30, 500), luck.integers(0, 3))
    values[:3] = [-1000, 5000, np.nan]
    made = bins.of_numbers(values, np.unique(values[~np.isnan(values)]))
    placed = made.place(values)
    assert placed.min() == 0
    assert placed.max() <= made.count
    first, stop = sorted(luck.choice(made.count + 1, 2, replace=False).tolist())
    low, high = made.ends(first, stop)
    inside = (values >= (float(low) if low else -np.inf)) & (values <= (float(high) if high else np.inf))
    np.testing.assert_array_equal(inside, (placed > first) & (placed <= stop))
    span = made.span(float(low) if low else None, float(high) if high else None)
    if inside.any():
        covered = [i for i in range(made.count) if span[0] < i + 1 and span[1] > i]
        assert {int(p) - 1 for p in placed[inside]} <= set(covered) <= set(range(first, stop))


def test_months_are_shown_for_a_few_years_and_years_for_many() -> None:
    days = np.arange(18000, 18400, dtype=float)
    assert bins.of_dates(days, days).labels[:2] == ("2019-04", "2019-05")
    assert bins.of_dates(days, days, "year").labels[0] == "2019"
    long = np.arange(0, 20000, 50, dtype=float)
    assert bins.of_dates(long, long).labels[0] == "1970"
    odd = np.array([-719162.0, 2932896.0, 18000.0])
    assert bins.of_dates(odd, odd).count <= 200
