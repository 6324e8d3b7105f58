"""The monitor in JupyterLab: it follows while a cell runs, in two views; a saved notebook names nobody."""

from __future__ import annotations

import json
from pathlib import Path

import dicomlake
from tests.objects import series
from tests.widgets.lab.conftest import Opener
from tests.widgets.test_monitor_receiver import push

_OPEN = """
import time
import dicomlake
from dicomlake.listening.monitoring import LakeSource, ReceiverSource
from dicomlake.widgets.monitor import Monitor
lake = dicomlake.open({path!r})
receiver = lake.listen(port=0, peers="any", quiet=0.3, builders=0)
catalog = LakeSource(lake._catalog, lake._storage, lake.path)
monitor = Monitor(ReceiverSource(receiver.events, receiver._settler, catalog, receiver.as_dict))
open({port!r}, "w").write(str(receiver.port))
"""


def test_it_follows_while_a_cell_runs_and_a_saved_notebook_names_nobody(
    notebook: Opener, tmp_path: Path, shots: Path
) -> None:
    path, port = tmp_path / "lake", tmp_path / "port"
    dicomlake.open(path, create=True).close()
    opened = _OPEN.format(path=str(path), port=str(port))
    lab = notebook(opened, "monitor", "monitor", "time.sleep(12)", "print('slept')")
    roots = lab.ready(2)
    files = series(5, PatientID="Planted-4711", StudyDescription="Planted^Words")
    assert push(int(port.read_text()), files) == [0] * 5
    ready = lab.page.locator("tr.dl-mon-study [data-state=ready]")
    lab.until(lambda: ready.count() == 2)
    assert "[*]:" in lab.prompts(), "the cell has ended before this said anything"
    roots.first.get_by_text("Show names").click()
    lab.until(lambda: "Planted-4711" in roots.first.inner_text())
    assert "Planted-4711" not in roots.last.inner_text(), "only where it was asked for"
    lab.finished()
    lab.picture(shots / "monitor.png")
    saved = json.dumps(lab.save())
    assert "planted" not in saved.lower()
    assert "CT_ROOM_3" not in saved
    assert "Monitor of a lake: 0 studies" in saved
    lab.python("receiver.stop(); monitor.close(); lake.close()")
