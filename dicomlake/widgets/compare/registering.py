"""Registrations that run beside a widget, one at a time, with news of how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

import traitlets

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import Refusal, handles
from dicomlake.widgets.compare.registration import Registration, Stopped, register

Pair = tuple[int, int]


class Registering(traitlets.HasTraits):
    """The part of a widget that registers its images. registrations: (fixed, moving) -> Registration."""

    if TYPE_CHECKING:  # what the widget that this is a part of has
        tell: Callable[..., None]
        beside: Callable[[Callable[[], object]], Thread]

    def __init__(self, **kwargs: Any) -> None:
        """kwargs: traits."""
        self.registrations: dict[Pair, Registration] = {}
        self._running = Lock()
        self._stopping = Event()
        super().__init__(**kwargs)

    def _stack_at(self, number: int) -> Any:
        """The stack of an image."""
        raise NotImplementedError

    def _called(self, number: int) -> str:
        """What an image is called where people see it: nothing that is identifying."""
        raise NotImplementedError

    def _count(self) -> int:
        raise NotImplementedError

    def _place(self) -> None:
        """Tell the browser what lies where."""
        raise NotImplementedError

    def _pairs(self) -> Sequence[Pair]:
        """What a registration would link now. Raises Refusal, which says why, for nothing."""
        raise NotImplementedError

    def use(self, registration: Registration, *, fixed: int = 0, moving: int = 1) -> None:
        """Link two images by a registration, whatever their frames of reference say."""
        count = self._count()
        if not (0 <= fixed < count and 0 <= moving < count and fixed != moving):
            raise DicomlakeError(f"images are numbered 0 to {count - 1}: name two different ones")
        self.registrations.pop((moving, fixed), None)
        self.registrations[fixed, moving] = registration
        self._place()

    def start_registration(self) -> Thread:
        """Register what lies in another space; returns the thread.

        Raises Refusal when one runs already or there is nothing to register.
        """
        pairs = self._pairs()
        if not self._running.acquire(blocking=False):
            raise Refusal("a registration is running already: wait for it or stop it")
        self._stopping.clear()
        return self.beside(lambda: self._register(pairs))

    @handles("register")
    def _ask_registration(self, _args: dict[str, Any], _buffers: Any) -> None:
        self.start_registration()

    @handles("stop")
    def _ask_stop(self, _args: dict[str, Any], _buffers: Any) -> None:
        self._stopping.set()

    def _register(self, pairs: Sequence[Pair]) -> None:
        said = "registration failed"
        try:
            for number, pair in enumerate(pairs):
                self._register_one(pair, number, len(pairs))
            said = "registered"
        except Stopped:
            said = "registration stopped"
        finally:
            self._running.release()
            self.tell("registering", {"part": 1.0, "text": said, "done": True})

    def _register_one(self, pair: Pair, number: int, count: int) -> None:
        fixed, moving = pair

        def told(part: float, text: str) -> None:
            words = f"registering {self._called(moving)}: {text}"
            self.tell("registering", {"part": (number + part) / count, "text": words, "done": False})

        stacks = self._stack_at(fixed), self._stack_at(moving)
        found = register(*stacks, told=told, stop=self._stopping.is_set)
        self.use(found, fixed=fixed, moving=moving)
