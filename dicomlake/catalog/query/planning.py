"""An expression as one SELECT over `series`: a join for each condition, so that each element is read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dicomlake.catalog.query.expressions import And, Condition, Expression, Not, Or, conditions_in
from dicomlake.catalog.query.fragments import FALSE, TRUE, Sql, either, every, sql
from dicomlake.catalog.query.leaves import Leaf

Test = Callable[[Condition, bool], Sql]


def plan(expression: Expression, leaves: Mapping[Condition, Leaf]) -> Sql:
    """series_id of all that may meet an expression, ascending, and whether they do for sure."""
    names = {condition: f"c{i}" for i, condition in enumerate(conditions_in(expression))}

    def test(condition: Condition, sure: bool) -> Sql:
        name = names[condition]
        return Sql(f"coalesce({name}.sure, false)" if sure else f"{name}.series_id IS NOT NULL")

    tables = [sql(f"{name} AS (\n    {{}})", leaves[condition].select()) for condition, name in names.items()]
    joins = "".join(f"\nLEFT JOIN {name} ON {name}.series_id = series.series_id" for name in names.values())
    where = decided(expression, test, sure=False)
    head = sql("WITH " + ",\n".join(["{}"] * len(tables)) + "\n", *tables) if tables else Sql("")
    return sql(
        "{}SELECT series.series_id AS series_id, {} AS sure\nFROM series"
        + joins
        + "\nWHERE {}\nORDER BY series_id",
        *(head, decided(expression, test, sure=True), where),
    )


def decided(expression: Expression, test: Test, *, sure: bool) -> Sql:
    """The conditions of an expression put together; what is not must be so for sure when its term may not."""
    match expression:
        case And(terms):
            return every([decided(term, test, sure=sure) for term in terms])
        case Or(terms):
            return either([decided(term, test, sure=sure) for term in terms])
        case Not(term):
            return negated(decided(term, test, sure=not sure))
        case condition:
            if says_no(condition):
                return negated(test(condition, not sure))
            return test(condition, sure)


def says_no(condition: Condition) -> bool:
    """Whether a condition asks for series without what its leaf finds."""
    missing = condition.operator == "missing"
    return condition.operator in ("missing", "empty") and condition.values[0] is missing


def negated(test: Sql) -> Sql:
    """The opposite of a test that is never NULL."""
    return FALSE if test == TRUE else TRUE if test == FALSE else sql("NOT ({})", test)


def hand_written(expression: Expression, leaves: Mapping[Condition, Leaf]) -> Sql:
    """What meets an expression for sure, as a test of `series` that one would write by hand."""

    def test(condition: Condition, sure: bool) -> Sql:
        return sql("series_id IN ({})", leaves[condition].ids(sure=sure))

    return decided(expression, test, sure=True)
