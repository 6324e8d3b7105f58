"""One condition as a SELECT of series ids: which meet it for sure, and which may.

Three things leave the rows of `attributes` in doubt, and the header block decides: a summary of many values,
an index of a value or an item, and a count between the fewest and the most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dicomlake.catalog.query.expressions import Condition, without_index
from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.fragments import FALSE, TRUE, Sql, either, every, sql
from dicomlake.catalog.query.paths import ElementPath
from dicomlake.catalog.query.predicates import predicate
from dicomlake.catalog.query.sources import resolve

_PRESENCE = frozenset({"missing", "empty", "count"})
_HAS_TEXT = Sql("text IS DISTINCT FROM ''")  # a value, or a summary of values


@dataclass(frozen=True, slots=True)
class Leaf:
    """The rows that matter, and what of each is sure and what may be; sure implies maybe.

    all: every row must, otherwise one is enough.
    """

    relation: Sql
    where: Sql
    sure: Sql
    maybe: Sql
    all: bool = False

    def select(self) -> Sql:
        """series_id of all that may meet the condition, and `sure`."""
        together = "bool_and" if self.all else "bool_or"
        rows = self.where if self.all else every([self.where, self.maybe])
        having = sql("\n    HAVING bool_and(coalesce({}, false))", self.maybe) if self.all else Sql("")
        return sql(
            f"SELECT series_id, {together}(coalesce({{}}, false)) AS sure\n"
            "    FROM {} WHERE {}\n    GROUP BY series_id{}",
            *(self.sure, self.relation, rows, having),
        )

    def ids(self, *, sure: bool) -> Sql:
        """series_id of all that meet the condition for sure, or that may, as one would write it by hand."""
        test = self.sure if sure else self.maybe
        if not self.all:
            return sql("SELECT series_id FROM {} WHERE {}", self.relation, every([self.where, test]))
        each = sql("bool_and(coalesce({}, false))", test)
        return sql(
            "SELECT series_id FROM {} WHERE {} GROUP BY series_id HAVING {}", self.relation, self.where, each
        )


def leaf(condition: Condition) -> Leaf:
    """A condition over the documented tables. Of `missing` and `empty`, the part that says yes."""
    source = resolve(condition.path)
    if isinstance(source, Fact):
        return _of_fact(source, condition)
    if source.name == "SOPInstanceUID" and not condition.every and condition.operator not in _PRESENCE:
        return _of_instances(condition)
    found = _over(condition, Sql("attributes"), Sql("path = ?", (source.name,)))
    return _with_index(source, found) if source.indexed else found


def _of_instances(condition: Condition) -> Leaf:
    """SOPInstanceUID differs in every instance, which rows only sum up; `instances` lists them."""
    uids = Sql("(SELECT series_id, SOPInstanceUID AS text FROM instances)")
    test = predicate(without_index(condition)).sure
    return Leaf(uids, TRUE, test, test)


def held_leaf(condition: Condition, rows: Sql) -> Leaf:
    """A condition on an element over rows that hold its values and no others, none of them a summary."""
    plain = without_index(condition)
    return _over(plain, rows, TRUE)


def _over(condition: Condition, relation: Sql, where: Sql) -> Leaf:
    sure, maybe = predicate(condition)
    if condition.operator == "count":
        both = _all_counts(condition) if condition.every else None
        return Leaf(relation, where, both or sure, both or maybe, all=condition.every)
    if condition.operator in _PRESENCE:
        return Leaf(relation, where, sure, sure)
    where = every([where, _HAS_TEXT])
    summary = sql("(text IS NULL AND {})", maybe)
    if not condition.every:
        return Leaf(relation, where, sure, either([sure, summary]))
    listed = sql("(text IS NOT NULL AND {})", sure)
    return Leaf(relation, where, listed, either([listed, Sql("text IS NULL")]), all=True)


def _all_counts(condition: Condition) -> Sql:
    """Whether both the fewest and the most values are as many as asked for."""
    low, high = (int(str(bound)) if bound is not None else None for bound in condition.values)
    parts = [] if low is None else [Sql("vm_low >= ?", (low,))]
    return every([*parts, *([] if high is None else [Sql("vm_high <= ?", (high,))])])


def _with_index(source: ElementPath, found: Leaf) -> Leaf:
    """Rows do not know which value or item they were: sure where there is only one."""
    at = source.value_index or 0
    enough = TRUE if source.value_index is None else Sql("vm_high > ?", (at,))
    possible = [step.index in (None, 0) for step in source.steps]
    maybe = TRUE if found.all else every([enough, found.maybe])
    if not all(possible):
        return replace(found, sure=FALSE, maybe=maybe)
    single = [TRUE if source.value_index is None else Sql("vm_high = 1")]
    sequences = source.sequences() if any(step.index is not None for step in source.steps[:-1]) else ()
    single += [
        Sql("series_id NOT IN (SELECT series_id FROM attributes WHERE path = ? AND vm_high > 1)", (path,))
        for path in sequences
    ]
    return replace(found, sure=every([found.sure, *single]), maybe=maybe)


def _of_fact(source: Fact, condition: Condition) -> Leaf:
    sure, where = predicate(condition).sure, TRUE
    if condition.every:
        columns = [column for column in (source.text, source.number) if column]
        where = either(Sql(f"{column} IS NOT NULL") for column in columns)
    relation = Sql("volumes") if condition.operator == "shape" else source.relation
    return Leaf(relation, where, sure, sure, all=condition.every)
