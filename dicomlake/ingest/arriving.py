"""The sink of the network: objects as they come over the wire, stored so that a sender may forget them.

Each association's thread collects, writes aside, hashes and reads its own object, in parallel with others.
Whoever is ready first then puts in place and registers all that are (`groups`, `registering`). Small objects
are held in memory; longer ones go to the disk while they come.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.file_meta import head as file_head
from dicomlake.dicom.headers import DEFLATED, Header, HeaderReader
from dicomlake.errors import DicomlakeError, NotADicomObject, StorageError, StorageFull
from dicomlake.ingest.examine import Examined, examined, unnamed
from dicomlake.ingest.groups import Groups
from dicomlake.ingest.intact import is_intact
from dicomlake.ingest.quotas import Quotas, Reserved
from dicomlake.ingest.registering import Ready, register
from dicomlake.ingest.sources import BytesContent
from dicomlake.ingest.staged import StagedContent
from dicomlake.records import Instance, Outcome, Refused, Sender, SeriesKey, Stored, StoreRequest
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Chunk, Staged, Storage

IN_MEMORY = 16 << 20  # bytes of a data set that is held; a longer one goes to the disk while it comes
_TINY = 64 << 10  # bytes whose hash costs no more than to have another thread make it
_HASHERS = 2
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_log = logging.getLogger("dicomlake.receiver")

OnStored = Callable[[SeriesKey, str, Attributes, StoreRequest], None]


class Arrivals:
    """Stores what peers send in a lake; a `network.seams.Sink`. Safe to use from many threads.

    quotas: how many bytes of data sets the lake may keep of a sender's peer, None for any number.
    on_stored: told of each object that is new in the lake (series, SOPInstanceUID, header, request), in the
        sender's thread before it is answered: it must be quick.
    in_memory: bytes of a data set up to which it is held in memory.
    """

    def __init__(
        self,
        catalog: Catalog,
        storage: Storage,
        *,
        quotas: Callable[[Sender], int | None] | None = None,
        on_stored: OnStored | None = None,
        in_memory: int = IN_MEMORY,
    ) -> None:
        self._catalog, self._storage = catalog, storage
        self._quotas = Quotas(catalog, quotas)
        self._on_stored = on_stored
        self._in_memory = in_memory
        self._own = threading.local()  # a HeaderReader for each thread
        self._hashing = ThreadPoolExecutor(_HASHERS, thread_name_prefix="hashing")
        self._groups: Groups[Ready, Stored] = Groups(self._register)

    def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        """Take an object in; returns once it is durable and in the catalog, or says why it is not.

        What `pieces` raises passes through, and nothing is kept.
        """
        arriving = _Arriving(request, pieces, self._in_memory)
        kept = False
        try:
            arriving.reserved = self._quotas.reserve(request.sender)
            stored = self._store(arriving)
            kept = stored.fresh
            return stored
        except _OverQuota:
            return Stored("over_quota", "the sender's quota is used up", size=arriving.size)
        except (DicomlakeError, OSError) as error:
            if error is arriving.broken:
                raise
            return _failed(error, arriving.size)
        finally:
            if arriving.reserved is not None:
                arriving.reserved.end(kept=kept)

    def _store(self, arriving: _Arriving) -> Stored:
        request = arriving.request
        content: bytes | Iterator[Chunk] = arriving.whole() or arriving.onward()
        data = content if isinstance(content, bytes) else None
        hashes = None if data is None else self._hashed(arriving, data)
        staged = self._storage.stage(layout.ARRIVING, content)
        try:
            staged = self._storage.make_durable(staged)
            ready = self._examined(arriving, staged, data, hashes() if hashes else arriving.hashes(None))
        except BaseException:
            self._storage.discard([staged])
            raise
        stored = self._taken(ready)
        if stored.fresh and self._on_stored is not None and ready.object is not None:
            self._tell(ready.object, request)
        return stored

    def _taken(self, ready: Ready) -> Stored:
        """Register an object; where the lake has it already, its original is read again before we say so."""
        stored = self._groups.take(ready)
        while stored.outcome == "already" and (held := ready.held) is not None:
            if _reads_well(self._storage, held):
                self._storage.discard([ready.staged])
                break
            ready.distrusted |= {held.key}
            stored = self._groups.take(ready)
        return stored

    def _hashed(self, arriving: _Arriving, data: bytes) -> Callable[[], tuple[str, str]]:
        """Begin to hash; gives the hashes. What is not tiny is hashed while it is written and synced."""
        if len(data) < _TINY:
            return lambda: arriving.hashes(data)
        return self._hashing.submit(arriving.hashes, data).result

    def _register(self, group: Sequence[Ready]) -> list[Stored]:
        try:
            return register(self._catalog, self._storage, group)
        except StorageFull:
            raise
        except StorageError:
            if len(group) == 1:
                raise
        return [self._alone(ready) for ready in group]  # what troubles one is not to fail its neighbours

    def _alone(self, ready: Ready) -> Stored:
        """Register an object whose group failed, which took what was staged with it."""
        one = ready.object
        try:
            if one is None or one.data is None:
                return Stored("failed", "others that came with it failed: send it again", size=ready.size)
            ready.staged = self._storage.stage(layout.ARRIVING, one.data)
            return register(self._catalog, self._storage, [ready])[0]
        except (DicomlakeError, OSError) as error:
            return _failed(error, ready.size)

    def _tell(self, one: Examined, request: StoreRequest) -> None:
        assert self._on_stored is not None
        try:
            self._on_stored(one.series, one.sop_instance_uid, one.header, request)
        except Exception as error:  # the object is safe, and its sender is to know
            _log.error("a listener failed: %s", type(error).__name__)

    # ---- what it is ---------------------------------------------------------------------------------

    def _examined(
        self, arriving: _Arriving, staged: Staged, data: bytes | None, hashes: tuple[str, str]
    ) -> Ready:
        """Read the header of what is staged."""
        request = arriving.request
        content = StagedContent(self._storage, staged) if data is None else BytesContent(data)
        sha256, dataset_sha256 = hashes
        origin = f"C-STORE from {request.sender.calling}"
        try:
            header = self._headers().read(content if data is None else data)
            outcome, reason = _fault(header, request, len(arriving.head))
            if not outcome and request.transfer_syntax == DEFLATED:
                chunks = (data,) if data is not None else content.chunks()
                outcome, reason = _fault_of_deflated(chunks, len(arriving.head))
        except NotADicomObject as error:
            outcome, reason = "unreadable", str(error)
        if outcome:
            refused = Refused(sha256, staged.size, reason, origin)
            return Ready(request, staged, arriving.size, None, refused, outcome)
        one = examined(origin, content, data, header, sha256, dataset_sha256)
        return Ready(request, staged, arriving.size, one)

    def _headers(self) -> HeaderReader:
        try:
            reader: HeaderReader = self._own.headers
        except AttributeError:
            reader = self._own.headers = HeaderReader()
        return reader


def _reads_well(storage: Storage, held: Instance) -> bool:
    try:
        return is_intact(storage, held)
    except StorageError:
        return False


def _failed(error: DicomlakeError | OSError, size: int) -> Stored:
    if isinstance(error, OSError):
        outcome: Outcome = "full" if error.errno in _FULL else "failed"
        return Stored(outcome, error.strerror or type(error).__name__, size=size)
    return Stored("full" if isinstance(error, StorageFull) else "failed", str(error), size=size)


class _OverQuota(Exception):
    """More bytes came than a peer may store."""


class _Arriving:
    """An object on its way in. size: bytes of the data set that came so far. broken: what `pieces` raised.

    reserved: of the sender's quota, None where there is none.
    """

    def __init__(self, request: StoreRequest, pieces: Iterator[memoryview], in_memory: int) -> None:
        self.request = request
        self.head = file_head(
            request.sop_class_uid.strip("\0 "), request.sop_instance_uid.strip("\0 "), request.transfer_syntax
        )
        self.size = 0
        self.reserved: Reserved | None = None
        self.broken: BaseException | None = None
        self._pieces = self._counted(pieces)
        self._in_memory = in_memory
        self._begun = bytearray(self.head)
        self._digests = hashlib.sha256(), hashlib.sha256()

    def _counted(self, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        while True:
            try:
                piece = next(pieces)
            except StopIteration:
                return
            except BaseException as error:
                self.broken = error
                raise
            self.size += len(piece)
            if self.reserved is not None and not self.reserved.add(len(piece)):
                raise _OverQuota
            yield piece

    def whole(self) -> bytes | None:
        """The whole file, where it is short; else None, and `onward` gives what came and comes."""
        for piece in self._pieces:
            self._begun += piece
            if self.size > self._in_memory:
                return None
        return bytes(self._begun)

    def onward(self) -> Iterator[Chunk]:
        """The file in pieces, hashed on the way."""
        begun, self._begun = self._begun, bytearray()
        of_file, of_dataset = self._digests
        of_file.update(begun)
        of_dataset.update(memoryview(begun)[len(self.head) :])
        yield begun
        del begun
        for piece in self._pieces:
            of_file.update(piece)
            of_dataset.update(piece)
            yield piece

    def hashes(self, data: bytes | None) -> tuple[str, str]:
        """SHA-256 of the file and of the data set, of `data` where it was held."""
        of_file, of_dataset = self._digests
        if data is not None:
            of_file.update(data)
            of_dataset.update(memoryview(data)[len(self.head) :])
        return of_file.hexdigest(), of_dataset.hexdigest()


# ---- what is wrong with it ----------------------------------------------------------------------------


def _fault(header: Header, request: StoreRequest, begin: int) -> tuple[Outcome | None, str]:
    """Why an object is not taken, if it is not: its outcome, and the reason without values."""
    if header.dataset_offset != begin:
        return (
            "unreadable",
            "the data set begins with group 0002, which belongs to files (PS3.10 section 7.1)",
        )
    lost = next((problem for problem in header.problems if _loses(problem, header)), None)
    if lost is not None:
        return "unreadable", f"{lost}: send it again, whole"
    reason = unnamed(header.dataset)
    if reason:
        return "unreadable", reason
    pairs = (("SOPClassUID", request.sop_class_uid), ("SOPInstanceUID", request.sop_instance_uid))
    other = [name for name, told in pairs if (header.dataset.text(name) or "").strip() != told.strip("\0 ")]
    if other:
        return "mismatch", f"{' and '.join(other)} of the data set differ from those of the command"
    return None, ""


def _loses(problem: str, header: Header) -> bool:
    """Whether something of the object is missing; behind the pixels come paddings, or signatures (FFFA)."""
    if "cut off" in problem or "deflated" in problem:
        return True
    return "ends inside" in problem and (header.pixels is None or "(FFFA," in problem)


def _fault_of_deflated(chunks: Sequence[bytes] | Iterator[bytes], begin: int) -> tuple[Outcome | None, str]:
    """A deflated data set says where it ends (RFC 1951): whether it came as far as that."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for chunk in chunks:
            rest: bytes | memoryview = memoryview(chunk)[begin:]
            begin = max(0, begin - len(chunk))
            while len(rest) and not inflater.eof:
                inflater.decompress(rest, 1 << 20)
                rest = inflater.unconsumed_tail
    except zlib.error:
        return "unreadable", "the deflated data set is damaged: send it again, whole"
    if not inflater.eof:
        return "unreadable", "the deflated data set is cut off: send it again, whole"
    return None, ""
