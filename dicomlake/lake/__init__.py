"""A lake: where the parts meet. Opens it, and passes what each verb needs to those who do it."""

from dicomlake.lake.lake import Lake
from dicomlake.lake.places import open, rebuild

__all__ = ["Lake", "open", "rebuild"]
