"""Draw the pictures of the widgets' pages: python -m docs.images.make_widgets, from the project's root.

Each widget is drawn in headless Chromium on invented data, as the tests draw it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from PIL import Image

import dicomlake as dl
from dicomlake.datasets import trial
from tests.widgets.stage import Stage, browser

FOLDER = Path(__file__).parent
WIDTH = 1180
SLICES = 100


def _lake(folder: Path) -> dl.Lake:
    lake = dl.open(folder / "lake", create=True)
    small = [dl.datasets.make(name, slices=SLICES) for name in ("chest-ct", "chest-rt", "brain-mr")]
    trial.write(folder / "trial", patients=12)
    lake.ingest(*small, dl.datasets.make("us-cine"), folder / "trial", progress=False)
    return lake


def _chest(lake: dl.Lake) -> Any:
    return max(lake.query(Modality="CT"), key=lambda one: one.facts["instances"])


def _viewer(lake: dl.Lake) -> Any:
    return _chest(lake).view(overlays=True)


def _compare(lake: dl.Lake) -> Any:
    chest = _chest(lake)
    return dl.compare(chest.view(arrangement="one"), chest.view(arrangement="one", preset="lung"))


def _sheet(lake: dl.Lake) -> Any:
    return lake.query(Modality=["CT", "MR", "US"]).contact_sheet()


def _quiz(lake: dl.Lake) -> Any:
    chest = lake.query(SeriesInstanceUID=_chest(lake).uid)
    return chest.quiz(segment="Nodules")


def _monitor(lake: dl.Lake) -> Any:
    """Half of what a scanner sends is ready, the other half is arriving."""
    receiver = lake.listen(port=0, peers="any", quiet=20)
    _ENDS.callback(receiver.stop)
    scanner = dl.open(Path(tempfile.mkdtemp(prefix="scanner-")), create=True)
    _ENDS.callback(scanner.close)
    scanner.ingest(dl.datasets.make("brain-mr", slices=40, seed=7), volumes=False, progress=False)
    scanner.ingest(dl.datasets.make("chest-ct", slices=60, seed=9), volumes=False, progress=False)
    to = f"DICOMLAKE@127.0.0.1:{receiver.port}"
    scanner.send(scanner.query(Modality="MR"), to, calling="MR2", progress=False)
    receiver.settle_now()
    receiver.wait(studies=1, timeout=120)
    monitor = receiver.monitor()
    uids = [one.sop_instance_uid for one in scanner.instances(scanner.query(Modality="CT")[0].key)]
    scanner.send(uids[:45], to, calling="CT1", progress=False)
    return monitor


_ENDS = ExitStack()  # what lives as long as its picture is drawn
PICTURES: dict[str, tuple[Callable[[dl.Lake], Any], int]] = {
    "viewer": (_viewer, 760),
    "compare": (_compare, 760),
    "contact-sheet": (_sheet, 620),
    "browser": (lambda lake: lake.browse(), 620),
    "explorer": (lambda lake: lake.explore(), 760),
    "quiz": (_quiz, 760),
    "monitor": (_monitor, 280),
}


def _smaller(path: Path) -> None:
    """256 colours do for a page, at a third of the size."""
    picture = Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def main() -> None:
    """Draw all of them, or those that are named."""
    named = sys.argv[1:] or list(PICTURES)
    with tempfile.TemporaryDirectory() as folder, browser() as chrome, _lake(Path(folder)) as lake, _ENDS:
        for name in named:
            make, height = PICTURES[name]
            page = chrome.new_page(viewport={"width": WIDTH, "height": height})
            stage = Stage(page)
            stage.draw(make(lake))
            page.wait_for_selector('.dl-widget[data-dl-state="ready"]')
            stage.settle(1500)
            page.screenshot(path=str(FOLDER / f"{name}.png"))
            _smaller(FOLDER / f"{name}.png")
            page.close()


if __name__ == "__main__":
    main()
