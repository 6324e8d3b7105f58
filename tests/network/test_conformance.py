"""The conformance statement says what the program does."""

from __future__ import annotations

import re
import runpy

import pytest
from pynetdicom import sop_class

from dicomlake.network import statuses
from dicomlake.network.conformance import statement
from tests.support import PROJECT

PAGE = PROJECT / "docs/reference/conformance.md"


def test_the_page_is_what_the_program_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == statement(), "run python docs/reference/make_conformance.py"


def test_the_script_writes_this_page() -> None:
    names = runpy.run_path(str(PROJECT / "docs/reference/make_conformance.py"))
    assert names["PAGE"] == PAGE
    assert names["statement"]() == statement()


def test_every_status_is_listed() -> None:
    listed = set(re.findall(r"\| `([0-9A-F]{4})` \|", statement()))
    assert {f"{status.code:04X}" for status in statuses.TABLE} <= listed
    assert {f"{code:04X}" for code in statuses.STORE.values()} <= listed


def test_every_storage_class_that_pynetdicom_knows_is_taken() -> None:
    from dicomlake.network.upper.negotiation import is_storage

    known = {str(uid) for uid in sop_class._STORAGE_CLASSES.values()}
    assert sorted(uid for uid in known if not is_storage(uid)) == []
    listed = set(re.findall(r"\| `([\d.]+)` \|", statement()))
    newer = {uid for uid in known - listed if uid.startswith("1.2.840.10008.")}
    assert len(newer) < 10  # those that came after the edition of our dictionary


@pytest.mark.parametrize("other", ["Verification", "StudyRootQueryRetrieveInformationModelFind"])
def test_what_is_no_storage_is_not_listed_as_such(other: str) -> None:
    storage = statement().split("<summary>Storage SOP classes")[1].split("</details>")[0]
    assert f"`{getattr(sop_class, other)}`" not in storage


def test_lines_of_the_tables_have_as_many_cells_as_their_heads() -> None:
    width = 0
    for line in statement().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert not width or cells == width, line
        width = cells
