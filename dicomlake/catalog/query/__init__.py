"""Questions about series: any element, any fact, in Python or as text, answered on the mirror.

`parse` and its parts make an expression, `matching` finds the series that meet it.
"""

from __future__ import annotations

from dicomlake.catalog.query.columns import columns
from dicomlake.catalog.query.explaining import explain
from dicomlake.catalog.query.expressions import And, Condition, Expression, Not, Or, from_json, to_json
from dicomlake.catalog.query.keywords import conditions
from dicomlake.catalog.query.keywords import conditions as parse_keywords
from dicomlake.catalog.query.matching import instances_where, matching
from dicomlake.catalog.query.text import parse, parse_text
from dicomlake.catalog.query.written import sql_of

__all__ = [
    "And",
    "Condition",
    "Expression",
    "Not",
    "Or",
    "columns",
    "conditions",
    "explain",
    "from_json",
    "instances_where",
    "matching",
    "parse",
    "parse_keywords",
    "parse_text",
    "sql_of",
    "to_json",
]
