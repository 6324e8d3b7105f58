"""The answer to a query is that of a scan of the files with pydicom, for any element that occurs in them."""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
import pytest

import dicomlake
from dicomlake.catalog.query import And, Expression, Not, Or, from_json, matching, parse, sql_of, to_json
from dicomlake.catalog.query.matching import Asked
from dicomlake.catalog.session import Session
from dicomlake.errors import QueryError
from dicomlake.lake import Lake
from tests.catalog import query_truth as say
from tests.catalog.query_truth import Seen, Value

ROUNDS = 400
Held = dict[str, list[Seen]]  # of one series, path by path


class World(NamedTuple):
    """A lake, its tables, and what a scan of its originals sees: id of a series -> path -> values."""

    lake: Lake
    session: Session
    truth: dict[int, Held]
    paths: list[str]

    def answer(self, expression: Expression) -> set[int]:
        """Ids of the series that were found, of those that pydicom can read."""
        found = matching(self.session, expression, self.lake.headers)
        assert found.tolist() == sorted(set(found.tolist()))
        return set(found.tolist()) & self.truth.keys()


@pytest.fixture(scope="module")
def world(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A lake of real files, of each folder some, without volumes."""
    chosen = random.Random(3)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(path for path in real_data.rglob("*") if path.is_file()):
        folders[path.parent].append(path)
    files = [path for some in folders.values() for path in chosen.sample(some, min(len(some), 4))]
    with dicomlake.open(tmp_path_factory.mktemp("real") / "lake", create=True) as lake:
        lake.ingest(files, volumes=False)
        truth = scan(lake)
        paths = sorted({path for held in truth.values() for path in held})
        yield World(lake, lake._mirror.session(), truth, paths)


def scan(lake: Lake) -> dict[int, Held]:
    """By pydicom, from the originals; series with a value that it cannot convert are left out."""
    found: dict[int, Held] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in lake.query():
            held: Held = defaultdict(list)
            try:
                for instance in one.instances:
                    if not instance.conflict:
                        ds = pydicom.dcmread(lake.path / instance.key, stop_before_pixels=True, force=True)
                        for path, seen in say.scanned(ds):
                            held[path].append(seen)
            except Exception:
                continue
            found[one.id] = held
    assert len(found) > 50
    return found


# --- conditions at random, and what they mean -----------------------------------------------------


class Trial(NamedTuple):
    """A condition, and the series that a scan says it finds."""

    expression: Expression
    expected: set[int]


def trial(world: World, chosen: random.Random) -> Trial | None:
    """A random condition on a random element with a value that occurs."""
    path = chosen.choice(world.paths)
    pairs = [(one, v) for held in world.truth.values() for one in held.get(path, ()) for v in one.values]
    pairs = [(one, v) for one, v in pairs if one.vr != "SQ" and v != ""]
    if not pairs or chosen.random() < 0.25:
        return presence(world, path, chosen)
    seen, value = chosen.choice(pairs)
    if seen.vr in say.NUMBERS:
        return of_numbers(world, path, value, chosen)
    if seen.vr in ("DA", "TM", "AS"):
        return of_moments(world, path, seen.vr, str(value), chosen)
    return of_text(world, path, seen.vr, str(value), chosen)


def made(world: World, path: str, wanted: dict[str, Any], meets: say.Meets, chosen: random.Random) -> Trial:
    """The condition, for some value or for every value."""
    every = chosen.random() < 0.3
    (name, asked), held = next(iter(wanted.items())), say.every_value if every else say.any_value
    name = f"{name}__all" if every else name
    expected = {i for i, found in world.truth.items() if held(found.get(path, []), path, meets)}
    return Trial(parse(**{name: asked}), expected)


def of_numbers(world: World, path: str, value: Value, chosen: random.Random) -> Trial | None:
    assert isinstance(value, float)
    if value != value:
        return None
    more = chosen.choice([value, value + 1, value - 0.5])
    low, high = sorted([value, more])

    def numeric(test: Any) -> say.Meets:
        return lambda _path, _seen, v: isinstance(v, float) and test(v)

    asks: list[tuple[dict[str, Any], say.Meets]] = [
        ({path: value}, numeric(lambda v: v == value)),
        ({f"{path}__in": [value, more]}, numeric(lambda v: v in (value, more))),
        ({path: (low, high)}, numeric(lambda v: low <= v <= high)),
        ({f"{path}__ge": more}, numeric(lambda v: v >= more)),
        ({f"{path}__gt": value}, numeric(lambda v: v > value)),
        ({f"{path}__le": more}, numeric(lambda v: v <= more)),
        ({f"{path}__lt": value}, numeric(lambda v: v < value)),
    ]
    return made(world, path, *chosen.choice(asks), chosen)


def of_moments(world: World, path: str, vr: str, value: str, chosen: random.Random) -> Trial | None:
    at = say.ordered(vr, value)
    if at is None or (vr == "TM" and "." not in value and len(value) != 6):
        return None
    end = at + (0 if vr != "TM" or "." in value else 1)  # "103000" is all moments of a second

    def moment(test: Any) -> say.Meets:
        def meets(_path: str, seen: Seen, v: Value) -> bool:
            found = say.ordered(seen.vr, v) if seen.vr == vr else None
            return found is not None and test(found)

        return meets

    def same(v: float) -> bool:
        return at <= v < end if end > at else v == at

    asks: list[tuple[dict[str, Any], say.Meets]] = [
        ({path: value}, moment(same)),
        ({f"{path}__ge": value}, moment(lambda v: v >= at)),
        ({f"{path}__lt": value}, moment(lambda v: v < at)),
        ({f"{path}__le": value}, moment(lambda v: v < at or same(v))),
        ({f"{path}__gt": value}, moment(lambda v: v > at and not same(v))),
    ]
    if vr == "DA":
        d = say.day(value)
        asks += [
            ({path: d}, moment(same)),
            ({path: d.isoformat()}, moment(same)),
            ({path: f"{d.year:04}"}, lambda _p, s, v: s.vr == "DA" and str(v)[:4] == value[:4]),
            ({path: f"{d:%Y-%m}"}, lambda _p, s, v: s.vr == "DA" and str(v)[:6] == value[:6]),
        ]
    return made(world, path, *chosen.choice(asks), chosen)


def of_text(world: World, path: str, vr: str, value: str, chosen: random.Random) -> Trial | None:
    if any(c in value for c in '*?=\\"') or vr == "AT":
        return None
    forms = say.forms(path, vr, value)
    if not forms or (vr == "DT"):
        return None
    asked = value.swapcase() if forms != say.forms(path, "CS", value) else value
    want = say.forms(path, vr, asked)[0]
    cut = chosen.randrange(len(asked)) if len(asked) > 1 else 0
    part = asked[cut : cut + chosen.randrange(1, 6)].strip("^ ") or want
    part = say.forms(path, vr, part)[0] if part else want

    def text(test: Any) -> say.Meets:
        def meets(at: str, seen: Seen, v: Value) -> bool:
            return any(test(form) for form in say.forms(at, seen.vr, v))

        return meets

    asks: list[tuple[dict[str, Any], say.Meets]] = [
        ({path: asked}, text(lambda v: v == want)),
        ({path: [asked, "nothing like it"]}, text(lambda v: v == want)),
        ({f"{path}__contains": part}, text(lambda v: part in v)),
        ({f"{path}__startswith": part}, text(lambda v: v.startswith(part))),
        ({f"{path}__endswith": part}, text(lambda v: v.endswith(part))),
        ({path: f"*{part}*"}, text(lambda v: part in v)),
        ({path: f"{part}*"}, text(lambda v: v.startswith(part))),
        ({f"{path}__ge": asked}, text(lambda v: v >= want)),
        ({f"{path}__lt": asked}, text(lambda v: v < want)),
        ({f"{path}__exact": value}, lambda p, s, v: value.rstrip("^ ") in written(s.vr, v)),
    ]
    return made(world, path, *chosen.choice(asks), chosen)


def written(vr: str, value: Value) -> list[str]:
    return [part.rstrip("^ ") for part in str(value).split("=")] if vr == "PN" else [str(value).rstrip("^ ")]


def presence(world: World, path: str, chosen: random.Random) -> Trial | None:
    """Absent, empty, or a number of values; pydicom and the catalog do not agree on bulk values."""
    held = {i: found.get(path, []) for i, found in world.truth.items()}
    if any(one.vr in say.BULK for some in held.values() for one in some):
        return None
    yes = chosen.random() < 0.5
    missing = {i for i, some in held.items() if not any(one.values for one in some)}
    empty = {i for i, some in held.items() if any(not one.values for one in some)}
    number = chosen.randrange(0, 4)
    counted = {i for i, some in held.items() if any(len(one.values) == number for one in some)}
    many = {i for i, some in held.items() if some and all(len(one.values) >= number for one in some)}
    everything = set(held)
    return chosen.choice(
        [
            Trial(parse(**{f"{path}__missing": yes}), missing if yes else everything - missing),
            Trial(parse(**{f"{path}__empty": yes}), empty if yes else everything - empty),
            Trial(parse(**{f"{path}__count": number}), counted),
            Trial(parse(**{f"{path}__all__count": (number, None)}), many),
        ]
    )


def trials(world: World, seed: int, count: int) -> Iterator[Trial]:
    chosen = random.Random(seed)
    while count:
        found = trial(world, chosen)
        if found is not None:
            count -= 1
            yield found


def combined(some: list[Trial], everything: set[int], chosen: random.Random) -> Trial:
    """These conditions put together in any way."""
    if len(some) == 1:
        if chosen.random() < 0.3:
            return Trial(Not(some[0].expression), everything - some[0].expected)
        return some[0]
    at = chosen.randrange(1, len(some))
    one, other = combined(some[:at], everything, chosen), combined(some[at:], everything, chosen)
    if chosen.random() < 0.5:
        return Trial(And((one.expression, other.expression)), one.expected & other.expected)
    return Trial(Or((one.expression, other.expression)), one.expected | other.expected)


def test_any_condition_finds_the_series_that_a_scan_finds(world: World) -> None:
    found = 0
    for expression, expected in trials(world, 20240229, ROUNDS):
        assert world.answer(expression) == expected, expression.words  # type: ignore[union-attr]
        found += bool(expected)
    assert found > ROUNDS // 2


def test_any_combination_finds_what_sets_of_the_scan_say(world: World) -> None:
    chosen = random.Random(5)
    everything = set(world.truth)
    some = list(trials(world, 11, ROUNDS))
    for start in range(0, ROUNDS, 4):
        expression, expected = combined(some[start : start + 4], everything, chosen)
        assert world.answer(expression) == expected, to_json(expression)


def test_the_sql_of_an_expression_finds_the_same_series(world: World) -> None:
    chosen = random.Random(6)
    some = list(trials(world, 12, ROUNDS // 2))
    asked = Asked(world.session, world.lake.headers)
    for start in range(0, len(some), 2):
        expression = combined(some[start : start + 2], set(world.truth), chosen).expression
        ids = matching(world.session, expression, world.lake.headers)
        rows = world.session.execute(sql_of(expression, ids, asked)).fetchall()
        assert [i for (i,) in rows] == ids.tolist(), to_json(expression)


def test_an_expression_comes_back_from_json(world: World) -> None:
    chosen = random.Random(7)
    some = list(trials(world, 13, 60))
    for start in range(0, 60, 3):
        expression = combined(some[start : start + 3], set(world.truth), chosen).expression
        assert from_json(to_json(expression)) == expression


def at_index(path: str, seen: Seen, at: int) -> list[Value]:
    """The value there, as it is compared."""
    if len(seen.values) <= at:
        return []
    value = seen.values[at]
    return [value] if isinstance(value, float) else list(say.forms(path, seen.vr, value))


def test_a_value_at_an_index_is_the_one_that_a_scan_finds_there(world: World) -> None:
    chosen = random.Random(8)
    tried = 0
    for path in world.paths:
        held = {i: found.get(path, []) for i, found in world.truth.items()}
        pairs = [
            (n, one.vr, v)
            for some in held.values()
            for one in some
            if one.vr in ("CS", "DS", "LO", "FD")
            for n, v in enumerate(one.values)
            if len(one.values) > 1 and v not in ("", "*") and "?" not in str(v)
        ]
        if not pairs:
            continue
        at, vr, value = chosen.choice(pairs)
        same = {value} if isinstance(value, float) else set(at_index(path, Seen(vr, (value,)), 0))
        expected = {i for i, some in held.items() if any(same & set(at_index(path, one, at)) for one in some)}
        assert world.answer(parse(**{f"{path}[{at}]": value})) == expected, path
        tried += 1
    assert tried > 10


def test_an_item_at_an_index_is_the_one_that_a_scan_finds_there(world: World) -> None:
    tried = 0
    for one in world.lake.query():
        if one.id not in world.truth or tried > 40:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept = next(instance for instance in one.instances if not instance.conflict)
            ds = pydicom.dcmread(world.lake.path / kept.key, stop_before_pixels=True, force=True)
        for element in ds:
            if element.VR != "SQ" or element.tag.is_private or not element.keyword:
                continue
            for at, item in enumerate(element.value[:3]):
                for inner in item:
                    if (
                        inner.VR in ("UI", "CS")
                        and isinstance(inner.value, str)
                        and inner.value
                        and inner.keyword
                    ):
                        found = world.answer(
                            parse(**{f"{element.keyword}[{at}].{inner.keyword}": inner.value})
                        )
                        assert one.id in found
                        beyond = f"{element.keyword}[{len(element.value)}].{inner.keyword}"
                        only = len(one.instances) == 1
                        assert not only or one.id not in world.answer(parse(**{beyond: inner.value}))
                        tried += 1
    assert tried > 10


def test_a_query_of_a_lake_finds_the_intersection(world: World) -> None:
    both = {
        i
        for i, held in world.truth.items()
        if any("CT" in one.values for one in held["Modality"])
        and any(512.0 in one.values for one in held["Rows"])
    }
    assert {one.id for one in world.lake.query(Modality="CT", Rows=512)} & world.truth.keys() == both != set()
    found = world.lake.query("Modality=CT", "Rows>=512", "Rows<=512")
    assert {one.id for one in found} & world.truth.keys() == both


def test_a_text_that_is_no_condition_is_refused_without_repeating_it(world: World) -> None:
    for text in ("Modality", "=CT", "Modality!CT"):
        with pytest.raises(QueryError) as refused:
            world.lake.query(text)
        assert "CT" not in str(refused.value)
