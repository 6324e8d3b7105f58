"""Performed procedure steps (MPPS) that modalities told of; bookkeeping beside the catalog, like `network`.

`facts` is what the service wants kept, messages of the modality with the patient's name among it: it goes
nowhere else.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from dicomlake.catalog import network, schema
from dicomlake.records import Sender

step = schema.step


def add_step(connection: Connection, uid: str, sender: Sender, status: str, facts: str) -> bool:
    """Keep a new step; False when there is one of this UID."""
    if step_facts(connection, uid) is not None:
        return False
    row = {name: getattr(sender, name) for name in ("calling", "called", "host", "association")}
    row |= {"SOPInstanceUID": uid, "at": network.now(), "status": status, "facts": facts}
    connection.execute(insert(step).values(row))
    return True


def update_step(connection: Connection, uid: str, status: str, facts: str) -> None:
    """Put other facts in the place of those there are."""
    values = {"at": network.now(), "status": status, "facts": facts}
    connection.execute(update(step).where(step.c.SOPInstanceUID == uid).values(values))


def step_facts(view: Connection, uid: str) -> str | None:
    """The facts of a step; None when there is none."""
    found = view.execute(select(step.c.facts).where(step.c.SOPInstanceUID == uid)).scalar()
    return None if found is None else str(found)
