"""What of a study is here, told by UIDs: settled or not, for whoever asks what is still to be fetched."""

from __future__ import annotations

from sqlalchemy import Connection, select

from dicomlake.catalog import schema


def instances_of_study(connection: Connection, study_uid: str) -> set[str]:
    """The SOPInstanceUIDs of a study's stored objects."""
    table = schema.instance
    query = select(table.c.SOPInstanceUID).where(
        table.c.StudyInstanceUID == study_uid, table.c.v_to.is_(None)
    )
    return {uid for (uid,) in connection.execute(query)}
