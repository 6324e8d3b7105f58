"""Several processes that receive on one port: for many scanners at once, as one interpreter uses one core."""

from __future__ import annotations

import logging
import os
import signal
import socket as sockets
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any

from dicomlake.errors import CannotListen, DicomlakeError
from dicomlake.listening.front import Front, Parts, Reception
from dicomlake.network.seams import Sender, Stored, StoreRequest, Watcher
from dicomlake.workers import Context, Worker, end_with_parent

log = logging.getLogger("dicomlake.network")

_START_S = 60.0
_GRACE_S = 10.0
_AGAIN_S = 1.0  # before a process that ended is replaced, so that one that cannot live does not spin


class Fronts:
    """Processes that receive on a socket that listens already; `watcher` is told what happens in all."""

    def __init__(self, reception: Reception, socket: sockets.socket, watcher: Watcher) -> None:
        self._reception, self._socket, self._watcher = reception, socket, watcher
        self._port = int(socket.getsockname()[1])
        self._hands: list[_Hand] = []
        self._lock = Lock()
        self._stopping = False
        self._listening = Thread(target=self._listen, daemon=True, name="fronts")

    @property
    def port(self) -> int:
        """That all listen on."""
        return self._port

    @property
    def associations(self) -> int:
        """How many are open, of all processes."""
        return sum(hand.associations for hand in self._hands)

    @property
    def pids(self) -> list[int]:
        """The processes that receive."""
        return [hand.process.pid for hand in self._hands if hand.process.pid is not None]

    def start(self) -> None:
        """Begin to receive. Raises CannotListen when a process cannot."""
        self._hands = [self._hire() for _ in range(self._reception.config.processes)]
        for hand in self._hands:
            hand.ready()
        self._listening.start()

    def stop(self, drain_s: float = 10.0) -> None:
        """Take no more associations, let what is under way end, then end the processes."""
        with self._lock:
            self._stopping = True
            hands = list(self._hands)
        for hand in hands:
            hand.tell(drain_s)
        deadline = monotonic() + drain_s + _GRACE_S
        for hand in hands:
            hand.end(max(0.0, deadline - monotonic()))
        if self._listening.ident is not None:
            self._listening.join(_GRACE_S)
        for hand in hands:
            hand.pipe.close()
        self._socket.close()

    def _hire(self) -> _Hand:
        return _Hand(self._reception, self._socket)

    def _listen(self) -> None:
        """Hand on what the processes tell; replace one that ended though nobody told it to."""
        while True:
            with self._lock:
                pipes = {hand.pipe: hand for hand in self._hands if not hand.gone}
                stopping = self._stopping
            if not pipes:
                if stopping:
                    return
                sleep(_AGAIN_S)
            for pipe in wait(list(pipes), timeout=0.5):
                self._hear(pipes[pipe])  # type: ignore[index]
            if not stopping:
                self._replace()

    def _hear(self, hand: _Hand) -> None:
        try:
            told = hand.pipe.recv()
        except (EOFError, OSError):
            hand.gone = True
            return
        if not isinstance(told, tuple):  # one that took another's place is ready, or says why it is not
            hand.gone = told is not None
            return
        what, arguments = told
        if what == "opened":
            hand.associations += 1
        elif what == "closed":
            hand.associations -= 1
        call: Callable[..., None] = getattr(self._watcher, what)
        call(*arguments)

    def _replace(self) -> None:
        for number, hand in enumerate(self._hands):
            if hand.gone and not self._stopping:
                log.error("a process that received ended (%s): another takes its place", hand.how)
                hand.end(0.0)
                hand.pipe.close()
                sleep(_AGAIN_S)
                with self._lock:
                    if not self._stopping:
                        self._hands[number] = self._hire()


class _Hand:
    """A process that receives, as its parent sees it."""

    def __init__(self, reception: Reception, socket: sockets.socket) -> None:
        context = Context()
        self.pipe, theirs = context.Pipe()
        self.associations, self.gone = 0, False
        self.process: Worker = context.Process(
            target=_serve, args=(theirs, reception, socket), name="dicomlake-front", daemon=True
        )
        self.process.start()
        theirs.close()
        self._at_exit = Finalize(self, self.process.kill, exitpriority=10)

    @property
    def how(self) -> str:
        """How it ended."""
        code = self.process.exitcode
        return "unknown" if code is None else signal.Signals(-code).name if code < 0 else f"status {code}"

    def ready(self) -> None:
        """Wait until it receives. Raises CannotListen."""
        try:
            told = self.pipe.recv() if self.pipe.poll(_START_S) else "it did not begin in time"
        except (EOFError, OSError):
            told = "it ended at once"
        if told is not None:
            self.process.kill()
            raise CannotListen(f"a process cannot receive: {told}")

    def tell(self, drain_s: float) -> None:
        """Ask it to end within so many seconds."""
        with suppress(OSError):
            self.pipe.send(drain_s)

    def end(self, seconds: float) -> None:
        """Wait for its end, and bring it about."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join(_GRACE_S)
        self._at_exit.cancel()


class _Telling(Watcher):
    """A watcher that tells the parent; what cannot be told any more is not needed any more."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self.lock = pipe, Lock()

    def _tell(self, what: str, *arguments: Any) -> None:
        with self.lock, suppress(OSError):
            self._pipe.send((what, arguments))

    def opened(self, sender: Sender) -> None:
        """See Watcher."""
        self._tell("opened", sender)

    def refused(self, host: str, calling: str, reason: str) -> None:
        """See Watcher."""
        self._tell("refused", host, calling, reason)

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
        """See Watcher."""
        self._tell("stored", request, result, seconds)

    def closed(self, sender: Sender, how: str) -> None:
        """See Watcher."""
        self._tell("closed", sender, how)


def _serve(pipe: Connection, reception: Reception, socket: sockets.socket) -> None:
    """The life of a process that receives."""
    from dicomlake.listening import logs
    from dicomlake.listening.committing import Committer

    for name in (signal.SIGINT, signal.SIGTERM):  # they reach all processes of a service; the parent decides
        signal.signal(name, signal.SIG_IGN)
    end_with_parent()
    parts = Parts(reception)
    config = reception.config
    logs.configure(config.log_format, "WARNING")
    # it writes requests down and waits for verdicts; that of the parent does the work
    ledger = Committer(parts.catalog, parts.storage, config.peers, config.ae_titles[0])
    telling = _Telling(pipe)
    front = Front(reception, parts.catalog, parts.storage, parts.mirror, ledger, telling, socket)
    with telling.lock:  # the first word is that it receives: somebody may be waiting at the door already
        try:
            front.server.start()
        except (DicomlakeError, OSError) as error:
            pipe.send(str(error))
            return
        pipe.send(None)
    try:
        drain_s = pipe.recv()
    except (EOFError, OSError):
        os._exit(1)
    front.server.stop(drain_s)
    parts.close()
