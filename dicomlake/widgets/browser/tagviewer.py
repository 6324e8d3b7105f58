"""The tag viewer: the header of one instance as a tree, by itself or as a part of the browser."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import traitlets

from dicomlake.dicom.headers import Header, read_header
from dicomlake.dicom.walk import Readable
from dicomlake.records import Instance
from dicomlake.widgets.base import Refusal, Widget, handles
from dicomlake.widgets.browser import tags

_KEPT = 8  # headers in memory
_LISTED = 500  # instances that are offered at a time
_DEEPEST = 64  # levels of sequences
_MOST_WORDS = 200

Args = Mapping[str, Any]


class SeriesLike(Protocol):
    """What a Series has that its headers are found by."""

    @property
    def instances(self) -> Sequence[Instance]:
        """Its stored objects."""

    @property
    def source(self) -> Any:
        """Its lake: `readable(instance)`."""


class Shelf:
    """Headers by the name of an instance, read when they are looked at; the last ones are kept."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._kept: OrderedDict[str, Header] = OrderedDict()

    def get(self, name: str, source: Callable[[], bytes | Readable]) -> Header:
        """The header of an instance. source: gives what it is read from."""
        with self._guard:
            found = self._kept.get(name)
        found = found or read_header(source())
        with self._guard:
            self._kept[name] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found


def answered(header: Header, args: Args) -> dict[str, Any]:
    """What an ask about a header gets: `words` searches, `all` is the whole of one value, else rows below."""
    path = path_of(args.get("path"))
    words = args.get("words")
    if isinstance(words, str) and words.strip():
        return tags.search(header, words[:_MOST_WORDS])
    if args.get("all"):
        return {"value": tags.whole(header, path)} if path else {"value": ""}
    return tags.children(header, path, whole_number(args.get("start")), tags.MOST_ROWS)


def path_of(given: Any) -> tags.Path:
    """A path as the browser sent it. Raises Refusal for anything else."""
    path = given or []
    if not isinstance(path, list) or len(path) > 2 * _DEEPEST or not all(type(one) is int for one in path):
        raise Refusal("that is no path to an element: reload the page")
    return tuple(path)


def whole_number(given: Any, default: int = 0) -> int:
    """A whole number that is not negative; the default for anything else."""
    return given if type(given) is int and given >= 0 else default


def listed_instances(instances: Iterable[Instance], start: int) -> dict[str, Any]:
    """Some of the instances of a series, to choose one."""
    every = list(instances)
    some = every[start : start + _LISTED]
    named = [{"uid": one.sop_instance_uid, "conflict": one.conflict} for one in some]
    return {"total": len(every), "start": start, "instances": named}


class TagViewer(Widget):
    """The elements of one instance at a time: nested, private, searched, with what identifies marked.

    source: a Series, the path of a DICOM file, or its bytes.
    """

    ENTRY = "browser/tagviewer.js"
    STYLES = ("browser/browser.css",)

    height = traitlets.Int(480, help="Of the table, in CSS pixels.").tag(sync=True)

    def __init__(self, source: SeriesLike | str | Path | bytes, *, height: int = 480) -> None:
        if isinstance(source, str | Path):
            if not Path(source).is_file():
                raise Refusal("there is no such file to read a header from: check the path")
        elif not isinstance(source, bytes) and not hasattr(source, "instances"):
            raise Refusal(f"a {type(source).__name__} has no header: give a series, a path or bytes")
        super().__init__(height=height)
        self._shelf = Shelf()
        self._source = source

    @handles("instances")
    def _instances(self, args: Args, _buffers: Any) -> dict[str, Any]:
        if isinstance(self._source, str | Path | bytes):
            return {"total": 1, "start": 0, "instances": [{"uid": "", "conflict": False}]}
        return listed_instances(self._source.instances, whole_number(args.get("start")))

    @handles("tags")
    def _tags(self, args: Args, _buffers: Any) -> dict[str, Any]:
        number = whole_number(args.get("number"))
        return answered(self._shelf.get(str(number), partial(self._bytes, number)), args)

    def _bytes(self, number: int) -> bytes | Readable:
        if isinstance(self._source, bytes):
            return self._source
        if isinstance(self._source, str | Path):
            return Path(self._source).read_bytes()
        instances = self._source.instances
        if number >= len(instances):
            raise Refusal(f"this series has {len(instances)} instances: number {number + 1} is none of them")
        found: Readable = self._source.source.readable(instances[number])
        return found

    def still(self) -> str:
        """Words only: a header names a patient."""
        return "Elements of a DICOM object; run the cell to see them"
