"""A forked process, as workers of torch and multiprocessing are on Linux, works with its parent's lake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dicomlake
from tests.objects import ROOT, series
from tests.support import PROJECT

SCRIPT = """
import os, sys
import dicomlake
lake = dicomlake.open(sys.argv[1])
cohort = lake.query(Modality="CT")
lake.facets()
child = os.fork()
if child == 0:
    held = [one.uid for one in cohort]
    asked = len(lake.query(Modality="CT")), lake.sql("select count(*) from series").rows(), len(lake.facets())
    lake.set_label(cohort, "seen", True)
    lake.close()
    print(len(held), asked, flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1], len(lake.query(label__seen="true")), flush=True)
lake.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_parent_and_child_both_go_on(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(2), series(2, f"{ROOT}.1.2"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "lake")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    assert done.stdout.splitlines() == ["2 (2, [(2,)], 8)", "0 2"]
