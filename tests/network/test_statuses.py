"""The table of statuses says what the code does."""

from __future__ import annotations

import re
from typing import get_args

import pynetdicom.status as peer

from dicomlake.network import statuses
from dicomlake.network.seams import Outcome


def test_every_outcome_has_a_status_that_the_table_explains() -> None:
    assert set(statuses.STORE) == set(get_args(Outcome))
    assert set(statuses.STORE.values()) <= set(statuses.MEANING)


def test_only_what_is_kept_is_success() -> None:
    good = {outcome for outcome, code in statuses.STORE.items() if code == 0}
    assert good == {"stored", "already", "conflict"}
    assert statuses.store_status("conflict", conflict=0xB000) == 0xB000
    assert statuses.store_status("stored", conflict=0xB000) == 0


def test_codes_stand_once_each_with_a_clause() -> None:
    assert len(statuses.MEANING) == len(statuses.TABLE)
    assert all(re.fullmatch(r"PS3\.[47] [A-Z0-9.]+", status.clause) for status in statuses.TABLE)


def test_pynetdicom_puts_the_codes_in_the_same_classes() -> None:
    for status in statuses.TABLE:
        assert peer.code_to_category(status.code).lower() == status.kind, hex(status.code)
    for code in (0x0001, 0xB000, 0xB006, 0xB007, 0x0107, 0x0116):
        assert statuses.kind(code) == "warning" == peer.code_to_category(code).lower()
