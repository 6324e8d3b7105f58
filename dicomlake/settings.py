"""The settings of a lake, in `lake.toml`; secrets are never among them."""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

from dicomlake.errors import CatalogError, NotALake

FORMAT = 1

Mode = Literal["copy", "reference"]
"""How the voxels of volumes are kept: in chunks of their own, or in the originals alone."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a lake is, beyond its data.

    format: of the layout on disk; a newer one is refused.
    created: when the lake was made, UTC, ISO 8601.
    volumes: "copy" (the default) stores the voxels of a volume beside its originals, compressed and in chunks
        that are fast from all sides. "reference" stores only where they lie, as long as the originals are
        uncompressed, which takes next to no space. Either way volumes open alike; what is changed here
        counts when a volume is built the next time. Lossy colour loops always stay in their originals.
    catalog: the URL of a PostgreSQL server that keeps the catalog, without a password; None, the default,
        keeps it in a SQLite file in the lake.
    """

    format: int = FORMAT
    created: str = ""
    volumes: Mode = "copy"
    catalog: str | None = None

    @classmethod
    def new(cls, *, catalog: str | None = None) -> Settings:
        """The settings of a lake that is made now. Raises CatalogError for a URL that cannot be kept."""
        if catalog is not None:
            schema_of(catalog)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(created=now, catalog=catalog)

    @classmethod
    def parse(cls, text: str) -> Settings:
        """Settings from a lake.toml. Raises NotALake when it cannot be read or is too new."""
        try:
            table = tomllib.loads(text)["lake"]
            found = cls(
                int(table["format"]),
                str(table.get("created", "")),
                table.get("volumes", cls().volumes),
                table.get("catalog"),
            )
        except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
            raise NotALake(
                "lake.toml cannot be read: restore it, or write `[lake]` with `format = 1`"
            ) from error
        if found.format > FORMAT:
            raise NotALake(
                f"the lake has format {found.format}, this dicomlake reads {FORMAT}: upgrade dicomlake"
            )
        if found.volumes not in get_args(Mode):
            raise NotALake('lake.toml cannot be read: write `volumes = "copy"` or `volumes = "reference"`')
        if found.catalog is not None:
            schema_of(found.catalog)
        return found

    def text(self) -> str:
        """The content of lake.toml."""
        return (
            "# A dicomlake: https://github.com/dicomlake/dicomlake\n"
            "# studies/ holds the originals and beside them the volumes; everything else can be rebuilt.\n"
            f'[lake]\nformat = {self.format}\ncreated = "{self.created}"\n'
            f'volumes = "{self.volumes}"  # copy, or reference: uncompressed voxels stay in the originals\n'
            + (
                f"catalog = {json.dumps(self.catalog)}  # its password is in PGPASSWORD or ~/.pgpass\n"
                * bool(self.catalog)
            )
        )


_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SECRET = ("password", "sslpassword")


def schema_of(url: Any) -> str:
    """The PostgreSQL schema that the URL of a catalog names: "dicomlake" unless it ends with `?schema=…`.

    Raises CatalogError for a URL that is none of PostgreSQL, or that holds a password. The message does not.
    """
    try:
        parts = urlsplit(url)
        query: dict[str, list[str]] = parse_qs(parts.query)
        known = parts.scheme in ("postgresql", "postgresql+psycopg")
    except (ValueError, TypeError, AttributeError):
        known = False
    if not known:
        raise CatalogError("the catalog's URL must be like postgresql+psycopg://user@host/database")
    if parts.password is not None or any(name in query for name in _SECRET):
        raise CatalogError(
            "the catalog's URL holds a password, and lake.toml is no place for one: take it out and "
            "put it into PGPASSWORD, ~/.pgpass or a service file, where libpq looks for it"
        )
    schema = query.get("schema", ["dicomlake"])[-1]
    if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
        raise CatalogError("the schema in the catalog's URL must be small letters, digits and _, 40 at most")
    return schema
