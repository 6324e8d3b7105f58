"""A sink that keeps what it is given in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from threading import Lock

from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicomlake.network.seams import Stored, StoreRequest
from dicomlake.records import SeriesKey


class Kept:
    """datasets: SOPInstanceUID -> data set bytes. arrivals: how often each came. requests: in their order."""

    def __init__(self, behave: Callable[[StoreRequest], str | None] = lambda _request: None) -> None:
        self.behave = behave
        self.datasets: dict[str, bytes] = {}
        self.studies: dict[str, set[str]] = {}
        self.arrivals: Counter[str] = Counter()
        self.requests: list[StoreRequest] = []
        self._lock = Lock()

    def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        data = b"".join(bytes(piece) for piece in pieces)
        uid = UID(request.transfer_syntax)
        ds = read_dataset(BytesIO(data), uid.is_implicit_VR, uid.is_little_endian, stop_when=_pixels)
        with self._lock:
            self.arrivals[request.sop_instance_uid] += 1
            self.requests.append(request)
            if (outcome := self.behave(request)) is not None:
                return Stored(outcome, "as the test wants")  # type: ignore[arg-type]
            fresh = request.sop_instance_uid not in self.datasets
            self.datasets[request.sop_instance_uid] = data
            self.studies.setdefault(str(ds.StudyInstanceUID), set()).add(request.sop_instance_uid)
        key = SeriesKey(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))
        return Stored("stored" if fresh else "already", series=key, size=len(data), fresh=fresh)

    def held(self, study_uid: str) -> set[str]:
        with self._lock:
            return set(self.studies.get(study_uid, ()))


def _pixels(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >= 0x7FE00010
