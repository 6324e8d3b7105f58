"""The settings of a lake, in `lake.toml`; secrets are never among them."""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import dataclass
from typing import Literal, get_args

from dicomlake.errors import NotALake

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
    """

    format: int = FORMAT
    created: str = ""
    volumes: Mode = "copy"

    @classmethod
    def new(cls) -> Settings:
        """The settings of a lake that is made now."""
        return cls(created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))

    @classmethod
    def parse(cls, text: str) -> Settings:
        """Settings from a lake.toml. Raises NotALake when it cannot be read or is too new."""
        try:
            table = tomllib.loads(text)["lake"]
            found = cls(
                int(table["format"]), str(table.get("created", "")), table.get("volumes", cls().volumes)
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
        return found

    def text(self) -> str:
        """The content of lake.toml."""
        return (
            "# A dicomlake: https://github.com/dicomlake/dicomlake\n"
            "# studies/ holds the originals and beside them the volumes; everything else can be rebuilt.\n"
            f'[lake]\nformat = {self.format}\ncreated = "{self.created}"\n'
            f'volumes = "{self.volumes}"  # copy, or reference: uncompressed voxels stay in the originals\n'
        )
