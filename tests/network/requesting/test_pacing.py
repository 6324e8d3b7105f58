"""Pulls wait as they are told to, and no longer once they are interrupted."""

from __future__ import annotations

import datetime
import threading
import time

from dicomlake.network.requesting.pacing import Pacer, Pacing, PullEnded


def test_who_waits_is_let_go_when_the_pull_is_stopped() -> None:
    for pacing in (Pacing(studies_per_minute=0.01), Pacing.parse(window=_never_now())):
        pacer = Pacer(pacing)
        if pacing.window is None:
            pacer.before_study()
        ended: list[str] = []

        def wait(pacer: Pacer = pacer, ended: list[str] = ended) -> None:
            try:
                pacer.before_study()
            except PullEnded:
                ended.append("ended")

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()
        pacer.stop()
        waiting.join(5)
        assert ended == ["ended"]


def _never_now() -> str:
    """A window that opens hours from now."""
    hour = (datetime.datetime.now().hour + 12) % 24
    return f"{hour:02}:00-{hour:02}:30"
