"""Senders, requests and outcomes, as an association would tell them to its watcher."""

from __future__ import annotations

from typing import Any

from dicomlake.network.seams import Sender, Stored, StoreRequest
from tests.listening.arriving import FIRST, key

CT = Sender("CT1", "DICOMLAKE", "192.0.2.7", "a1", "ct")


def request(number: int = 1, sender: Sender = CT) -> StoreRequest:
    return StoreRequest("1.2.840.10008.5.1.4.1.1.2", f"{FIRST}.{number}", "1.2.840.10008.1.2.1", sender)


def result(outcome: Any = "stored", **facts: Any) -> Stored:
    return Stored(outcome, **({"series": key(FIRST), "size": 1000, "fresh": outcome == "stored"} | facts))
