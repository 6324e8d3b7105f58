"""Overlays of a viewer: what is laid over its images, and their planes for the browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING, Any, Protocol

import traitlets

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import Answer, Refusal, handles, without_uids
from dicomlake.widgets.overlays import settings
from dicomlake.widgets.overlays.asking import request_of
from dicomlake.widgets.overlays.base import Overlay, Request, Shown, Space, short
from dicomlake.widgets.overlays.kept import Kept
from dicomlake.widgets.overlays.making import How, overlay_of

_SOON_S = 0.25  # how long an ask waits for a volume before it says that it will come
_MOST = 64


class ReferredTo(Protocol):
    """A series, as far as what refers to it goes."""

    def segmentations(self) -> list[Any]:
        """The Segmentations of it, opened."""

    def structures(self) -> list[Any]:
        """The StructureSets drawn on it, opened."""

    @property
    def dose_uids(self) -> list[str]:
        """SeriesInstanceUIDs of the doses in its frame of reference."""

    def dose(self, uid: str | None = None) -> Any:
        """The dose in its frame of reference, in Gy."""


class Overlaying(traitlets.HasTraits):
    """The part of a viewer that lays things over its images."""

    overlays: traitlets.List[dict[str, Any]] = traitlets.List(
        help="What is laid over the images, the lowest first; `add` and `remove` change what there is."
    ).tag(sync=True)
    overlay_notes = traitlets.List(traitlets.Unicode(), help="What could not be laid over, and why.").tag(
        sync=True
    )

    if TYPE_CHECKING:  # what the viewer that this is a part of has
        stack_source: Shown
        subject: Any
        tell: Callable[..., None]
        beside: Callable[[Callable[[], object]], Thread]
        failed: Callable[[Exception], str]

    def __init__(self, **kwargs: Any) -> None:
        """kwargs: traits."""
        self._laid: dict[str, Overlay] = {}
        self._laid_entries: list[dict[str, Any]] = []
        self._laid_lock = RLock()
        self._laid_number = 0
        self._laid_space: Space | None = None
        self._overlay_kept = Kept()
        self._preparing: dict[str, Event] = {}
        self._unprepared: dict[str, Exception] = {}
        super().__init__(**kwargs)

    # ---- what there is ----

    def add(
        self,
        obj: Any,
        name: str | None = None,
        *,
        alpha: float = 0.5,
        visible: bool = True,
        colour: Any = None,
        window: Sequence[float] | None = None,
        colormap: str | None = None,
        levels: Any = None,
        anyway: bool = False,
        transform: Any = None,
    ) -> str:
        """Lay something over the images; returns its id. Volumes are read when planes are looked at.

        obj: a Segmentation; a StructureSet; a dose (a DataArray in Gy); a mask, bool or of whole numbers,
            as a DataArray on any grid or an array of the image's shape (z, y, x); bool masks along one more
            dimension; masks by name in a dict; any other DataArray, which is blended in (PET on CT, a
            probability map).
        alpha: opacity from 0 to 1. colour: "#rrggbb" or (r, g, b), of a single mask; of a dict of masks, a
            dict of colours. With a colour an array of whole numbers is a mask even if it says that it is an
            image.
        window: (center, width) in units, and colormap: blend in whatever obj is, a dose for instance.
        levels: isodose lines in Gy, or text like "95%" of the maximum, or {"prescribed_gy": 60, "percent":
            [107, 95, 50]}; of a fractional segmentation the least fraction that is inside, 0.5 unless given.
        anyway: lay it over in spite of another frame of reference, or an unknown one.
        transform: patient mm of the displayed image -> patient mm of obj, as registration to the displayed
            image gives it: (4, 4), a SimpleITK transform, or a function of points (n, 3).
        Raises GeometryError when the two do not share a space, DicomlakeError for what cannot be laid over.
        """
        how = How(colour, window, colormap, levels, anyway, transform, name, len(self._laid))
        with self._laid_lock:
            if len(self._laid) >= _MOST:
                raise DicomlakeError(f"{_MOST} overlays are shown: remove one first")
            self._laid_number += 1
            id_ = f"o{self._laid_number}"
        usual, overlay = overlay_of(obj, self._space(), id_, how)  # may read: others go on meanwhile
        with self._laid_lock:
            entry = {
                "id": id_,
                "name": self._unused(short(name or usual)),
                "kind": overlay.kind,
                "visible": bool(visible),
                "version": 1,
                **overlay.state(),
            }
            self._laid[id_] = overlay
            self._laid_entries.append(settings.changed(entry | {"alpha": 0.5}, {"alpha": float(alpha)}))
            self._publish()
        return id_

    def add_all(self) -> list[str]:
        """Lay over all that refers to the series shown: segmentations, structures, its dose; returns the ids.

        What cannot be laid over is told in `overlay_notes`, and in the viewer; it stops nothing.
        """
        subject: ReferredTo | None = self.subject
        if subject is None:
            raise DicomlakeError(
                "this viewer shows an array, to which nothing refers: view a series, or add() what you have"
            )
        found: list[str] = []
        notes: list[str] = []
        for what, get in (
            ("segmentations", subject.segmentations),
            ("structures", subject.structures),
            ("dose", lambda: [subject.dose()] if subject.dose_uids else []),
        ):
            objects = self._noted(notes, what, get) or []
            for obj in objects:
                added = self._noted(notes, what, partial(self.add, obj))
                found += [added] if added else []
        self.overlay_notes = notes
        return found

    def remove(self, id: str) -> None:
        """Take an overlay away. Raises DicomlakeError when there is none of that id."""
        with self._laid_lock:
            self._known(id)
            del self._laid[id]
            self._laid_entries = [entry for entry in self._laid_entries if entry["id"] != id]
            self._overlay_kept.forget(id)
            self._publish()

    def overlay(self, id: str) -> Laid:
        """One overlay, to look at and to change. Raises DicomlakeError when there is none of that id."""
        self._known(id)
        return Laid(self, id)

    def refresh(self, id: str) -> None:
        """Draw an overlay anew, because its array was changed in place."""
        with self._laid_lock:
            self._known(id)
            self._overlay_kept.forget(id)
            for entry in self._laid_entries:
                if entry["id"] == id:
                    entry["version"] += 1
            self._publish()

    def _noted(self, notes: list[str], what: str, work: Callable[[], Any]) -> Any:
        """What work gives; None, and a note, when it fails."""
        try:
            return work()
        except DicomlakeError as exc:
            notes.append(f"{what}: {without_uids(str(exc))}")
        except Exception as exc:  # one object, whatever is wrong with it, must not hide the others
            notes.append(f"{what}: {type(exc).__name__}")
        return None

    def _unused(self, name: str) -> str:
        names = {entry["name"] for entry in self._laid_entries}
        others = (f"{name} {n}" for n in range(2, _MOST + 3))
        return name if name not in names else next(other for other in others if other not in names)

    def _known(self, id_: str) -> Overlay:
        found = self._laid.get(id_)
        if found is None:
            raise DicomlakeError(f"no overlay has that id: there are {', '.join(self._laid) or 'none'}")
        return found

    def _space(self) -> Space:
        if self._laid_space is None:
            self._laid_space = Space.of(self.stack_source)
        return self._laid_space

    # ---- the trait ----

    def _publish(self) -> None:
        self.overlays = [dict(entry) for entry in self._laid_entries]

    @traitlets.validate("overlays")
    def _merge_overlays(self, proposal: Any) -> list[dict[str, Any]]:
        """Entries as they may be: the browser and Python change how overlays look, not which there are."""
        with self._laid_lock:
            self._laid_entries = settings.merged(self._laid_entries, proposal["value"])
            return [dict(entry) for entry in self._laid_entries]

    # ---- the browser ----

    @handles("overlay")
    def _overlay_planes(self, args: Mapping[str, Any], _buffers: Any) -> Answer:
        """Planes of an overlay, or {"pending": true} while its volume is read: then news `overlay` follow."""
        id_ = str(args.get("id"))
        overlay = self._laid.get(id_)
        if overlay is None:
            raise Refusal("this overlay was taken away")
        if (failure := self._unprepared.pop(id_, None)) is not None:
            raise failure
        request = request_of(args, self._space())
        if not overlay.ready(request, self._overlay_kept) and not self._prepared_soon(id_, overlay, request):
            return Answer({"pending": True})
        if (failure := self._unprepared.pop(id_, None)) is not None:
            raise failure
        drawn = overlay.draw(request, self._overlay_kept)
        size = {"rows": request.cuts[0].rows, "cols": request.cuts[0].cols, "count": len(request.cuts)}
        return Answer({"kind": overlay.kind, **size, **drawn.data}, drawn.buffers)

    def _prepared_soon(self, id_: str, overlay: Overlay, request: Request) -> bool:
        """Have what an overlay needs be made on a thread of its own; whether that was quick."""
        with self._laid_lock:
            done = self._preparing.get(id_)
            if done is None:
                done = self._preparing[id_] = Event()
                self.beside(lambda: self._prepare(id_, overlay, request, done))
        return done.wait(_SOON_S)

    def _prepare(self, id_: str, overlay: Overlay, request: Request, done: Event) -> None:
        try:
            overlay.draw(request, self._overlay_kept)
        except Exception as exc:
            self._unprepared[id_] = exc
        finally:
            self._preparing.pop(id_, None)
            done.set()
            self.tell("overlay", {"id": id_})


class Laid:
    """An overlay in a viewer: its entry of the trait `overlays`, to read and to change."""

    def __init__(self, viewer: Overlaying, id_: str) -> None:
        self._viewer, self.id = viewer, id_

    @property
    def state(self) -> dict[str, Any]:
        """The entry, a copy: name, kind, visible, alpha, labels, window …"""
        found = [entry for entry in self._viewer.overlays if entry["id"] == self.id]
        if not found:
            raise DicomlakeError("this overlay was taken away: add it again")
        return {**found[0], "labels": [dict(one) for one in found[0]["labels"]]}

    @property
    def labels(self) -> dict[str, bool]:
        """The names of its labels, and whether each is visible."""
        return {one["name"]: one["visible"] for one in self.state["labels"]}

    def set(self, **changes: Any) -> None:
        """Change `visible`, `alpha`, `style` ("fill", "outline", "both"), `window`, `colormap`, `blend`,
        `labels`, or `levels` of isodose lines, as in `add`.

        Raises DicomlakeError for what this overlay has not, or cannot be.
        """
        entry = self.state
        if "levels" in changes:
            changes |= self._levels(entry, changes.pop("levels"))
        if "window" in changes:
            changes["window"] = list(changes["window"])
        found = settings.changed(entry, changes)
        wrong = [k for k, v in changes.items() if k not in found or (k != "labels" and found[k] != v)]
        if wrong:
            raise DicomlakeError(f"this overlay cannot have that {', '.join(wrong)}: see its .state")
        self._viewer.overlays = [found if e["id"] == self.id else e for e in self._viewer.overlays]

    def show(self, *names: str) -> None:
        """Make labels visible, all unless named, and the overlay with them."""
        self.set(visible=True, labels=self._seen(names, lambda one, hit: one["visible"] or hit))

    def hide(self, *names: str) -> None:
        """Make labels invisible; without names the whole overlay."""
        if names:
            self.set(labels=self._seen(names, lambda one, hit: one["visible"] and not hit))
        else:
            self.set(visible=False)

    def only(self, *names: str) -> None:
        """Show these labels and no others."""
        self.set(visible=True, labels=self._seen(names, lambda _one, hit: hit))

    def _seen(self, names: Sequence[str], seen: Callable[[dict[str, Any], bool], bool]) -> list[Any]:
        labels = self.state["labels"]
        unknown = set(names) - {one["name"] for one in labels}
        if unknown:
            raise DicomlakeError(f"{len(unknown)} of these names are no label of the overlay: see .labels")
        return [{**one, "visible": seen(one, not names or one["name"] in names)} for one in labels]

    @staticmethod
    def _levels(entry: Mapping[str, Any], levels: Any) -> dict[str, Any]:
        from dicomlake.widgets.overlays.isodose import levels_of

        if entry["kind"] != "isodose":
            raise DicomlakeError("only isodose lines have levels")
        if not isinstance(levels, Mapping) and entry["prescribed"]:
            levels = {"prescribed_gy": entry["reference_gy"], **_split(levels)}
        found, reference, _ = levels_of(levels, entry["max_gy"])
        return {"reference_gy": round(reference, 4), "labels": [{"value": level} for level in found]}

    def __repr__(self) -> str:
        state = self.state
        return f"<Laid {self.id}: {state['kind']}, {len(state['labels'])} labels>"


def _split(levels: Any) -> dict[str, list[Any]]:
    """Levels as numbers in Gy and as percentages."""
    wanted = [levels] if isinstance(levels, int | float | str) else list(levels)
    percent = [one.strip()[:-1] for one in wanted if isinstance(one, str) and one.strip().endswith("%")]
    return {
        "percent": percent,
        "gy": [one for one in wanted if not (isinstance(one, str) and one.strip().endswith("%"))],
    }
