"""Group commit: threads that wait for the same slow step take it together.

Whoever finds nobody at it takes the step for itself and for all who came meanwhile. One caller alone
costs two uncontended locks and no switch of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Ticket(Generic[_Item, _Result]):
    __slots__ = ("error", "item", "results", "turn")

    def __init__(self, item: _Item) -> None:
        self.item = item
        self.results: list[_Result] = []  # one, once it is done
        self.error: BaseException | None = None
        self.turn = Lock()  # held until it is done, or its thread is to lead
        self.turn.acquire()


class Groups(Generic[_Item, _Result]):
    """Gives single items to a step that takes many. Safe to use from many threads.

    step: a result for each item, in order; what it raises, each of these callers gets.
    largest: items in one group.
    """

    def __init__(self, step: Callable[[Sequence[_Item]], Sequence[_Result]], *, largest: int = 64) -> None:
        self._step = step
        self._largest = largest
        self._lock = Lock()
        self._waiting: list[_Ticket[_Item, _Result]] = []
        self._led = False

    def take(self, item: _Item) -> _Result:
        """The result of an item, once a group with it is through."""
        ticket: _Ticket[_Item, _Result] = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            lead, self._led = not self._led, True
        if not lead:
            ticket.turn.acquire()
        if not ticket.results and ticket.error is None:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.results[0]

    def _lead(self) -> None:
        """Take the step for those who wait, the caller first among them, and hand on to the next."""
        with self._lock:
            group = self._waiting[: self._largest]
            del self._waiting[: self._largest]
        try:
            for ticket, result in zip(group, self._step([one.item for one in group]), strict=True):
                ticket.results.append(result)
        except BaseException as error:
            for ticket in group:
                ticket.error = error
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._led = bool(following)
            for ticket in (*group[1:], *following):
                ticket.turn.release()
