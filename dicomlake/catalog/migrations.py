"""How the tables of a catalog came about: numbered forward steps.

A new catalog gets the tables as they are today; one of before is brought up to date, a step after the other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select, update
from sqlalchemy.schema import CreateColumn

from dicomlake.catalog.schema import (
    CLOSED,
    NETWORK,
    clinical,
    cohort,
    document,
    info,
    instance,
    label,
    metadata,
    row_digest,
    volume,
    volume_facts,
)
from dicomlake.errors import SchemaTooNew


def _create_all(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.execute(insert(info).values(name="identity", value=secrets.token_hex(16)))


def _add_versions_of_volumes(connection: Connection) -> None:
    """Schema 2: versions of volumes, and what was found about them as columns."""
    present = {column["name"] for column in inspect(connection).get_columns("volume")}
    if "version" in present:  # a new catalog: the tables were made as they are today
        return
    known = [column for column in volume.c if column.name in present]
    old = [dict(row) for row in connection.execute(select(*known)).mappings()]
    for column in volume.c:
        if column.name not in present:
            spelled = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE volume ADD COLUMN {spelled}")
    for row in old:
        facts = volume_facts(json.loads(row["dims"]), json.loads(row["shape"]), json.loads(row["info"]))
        new = row | {"version": 1, "plan_digest": None} | facts
        if row_digest(row) == row["digest"]:  # else it was damaged, and must stay so
            new["digest"] = row_digest(new)
        connection.execute(update(volume).where(volume.c.id == row["id"]).values(new))


def _add_annotations(connection: Connection) -> None:
    """Schema 3: labels, clinical tables, texts of documents, frozen cohorts."""
    metadata.create_all(connection, tables=[label, clinical, document, cohort])


def _slim_indexes_of_instances(connection: Connection) -> None:
    """Schema 4: half of what a series cost to write was an index that no query used, and one on `settled`."""
    connection.exec_driver_sql('DROP INDEX IF EXISTS "ix_instance_sha256"')
    connection.exec_driver_sql("DROP INDEX IF EXISTS instance_unsettled")
    next(index for index in instance.indexes if index.name == "instance_unsettled").create(connection)


def _add_indexes_of_closed_rows(connection: Connection) -> None:
    """Schema 5: a mirror asks at each refresh which rows were closed since."""
    for index in CLOSED:
        index.create(connection, checkfirst=True)


def _add_network(connection: Connection) -> None:
    """Schema 6: what peers on the network sent and were promised."""
    metadata.create_all(connection, tables=list(NETWORK))


Migration = Callable[[Connection], None]
MIGRATIONS: tuple[Migration, ...] = (
    _create_all,
    _add_versions_of_volumes,
    _add_annotations,
    _slim_indexes_of_instances,
    _add_indexes_of_closed_rows,
    _add_network,
)


def version(connection: Connection) -> int:
    """The schema version of a catalog; 0 when it has no tables yet."""
    if not inspect(connection).has_table("info"):
        return 0
    found = connection.execute(select(info.c.value).where(info.c.name == "schema_version")).scalar()
    return int(found) if found is not None else 0


def require_known(found: int, migrations: tuple[Migration, ...]) -> None:
    """Raise SchemaTooNew when a catalog is newer than this program."""
    if found > len(migrations):
        raise SchemaTooNew(
            f"the catalog has schema {found}, this dicomlake knows {len(migrations)}: upgrade dicomlake"
        )


def migrate(connection: Connection, migrations: tuple[Migration, ...]) -> int:
    """Bring a catalog to the newest version, inside the caller's transaction; return the steps taken.

    Raises SchemaTooNew when it is newer than this program.
    """
    have = version(connection)
    require_known(have, migrations)
    for number, step in enumerate(migrations[have:], have + 1):
        step(connection)
        _set_version(connection, number)
    return len(migrations) - have


def _set_version(connection: Connection, number: int) -> None:
    done = connection.execute(update(info).where(info.c.name == "schema_version").values(value=str(number)))
    if done.rowcount == 0:
        connection.execute(insert(info).values(name="schema_version", value=str(number)))
