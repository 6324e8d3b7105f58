"""What can go wrong, in one tree; every message ends with the remedy.

    DicomlakeError
    ├── NotADicomObject          the bytes are not a DICOM data set
    │   └── BrokenObject         they begin as one, but cannot be read to the pixels
    ├── NotALake                 no lake.toml here, or one that cannot be read
    ├── CatalogError             the catalog cannot answer or cannot write
    │   ├── SchemaTooNew         written by a newer dicomlake
    │   ├── QueryError           a condition that cannot be understood
    │   └── CohortChanged        a frozen cohort is not what it was
    ├── StorageError             a key cannot be written or read
    │   └── StorageFull          no space left, or a size limit reached
    ├── GeometryError            the frames do not form what was asked for
    ├── QuantityError            the object does not say what a quantity needs
    ├── UnsupportedPixels        no trusted decoder for these pixels
    ├── VolumeError              a volume is missing or cannot be opened
    └── NetworkError             something between machines
        ├── SettingsError        settings of a receiver, peer or TLS that cannot be used
        ├── CannotListen         the port, or a process that receives, is not to be had
        ├── NotArrived           what was waited for did not come in time; also a TimeoutError
        ├── AddressError         not an address like AE@HOST:PORT
        └── PeerError            a peer cannot be reached, or does not do what was asked

No message holds the value of an identifying attribute: keywords, tags, UIDs, counts and
paths that the caller gave, nothing else.
"""

from __future__ import annotations


class DicomlakeError(Exception):
    """Base of all errors raised by dicomlake."""


class NotADicomObject(DicomlakeError):
    """The bytes are not a DICOM data set."""


class BrokenObject(NotADicomObject):
    """A DICOM object that cannot be read as far as its pixels."""


class NotALake(DicomlakeError):
    """The folder holds no lake, or one whose settings cannot be read."""


class CatalogError(DicomlakeError):
    """The catalog cannot answer or cannot write."""


class SchemaTooNew(CatalogError):
    """The catalog was written by a newer dicomlake."""


class QueryError(CatalogError):
    """A query condition that cannot be understood; names the condition."""


class CohortChanged(CatalogError):
    """Series of a frozen cohort are gone, or are not what they were."""


class StorageError(DicomlakeError):
    """A key cannot be written or read."""


class StorageFull(StorageError):
    """No space left on the device, or a size limit was reached."""


class GeometryError(DicomlakeError):
    """The frames do not form the grid that was asked for."""


class QuantityError(DicomlakeError):
    """Values cannot be given in the unit asked for; names the element that is missing or contradicts."""


class UnsupportedPixels(DicomlakeError):
    """No trusted decoder for these pixels; the original is untouched.

    transfer_syntax: the UID that found no decoder.
    """

    def __init__(self, message: str, *, transfer_syntax: str) -> None:
        super().__init__(message)
        self.transfer_syntax = transfer_syntax


class VolumeError(DicomlakeError):
    """A volume is missing, damaged or cannot be opened."""


class NetworkError(DicomlakeError):
    """Something between machines."""


class SettingsError(NetworkError):
    """Settings of a receiver, a peer or TLS that cannot be used; names the file and the key."""


class CannotListen(NetworkError):
    """The address or port is not to be had, or a process that is to receive could not begin."""


class NotArrived(NetworkError, TimeoutError):
    """What was waited for did not arrive in time."""


class AddressError(NetworkError):
    """Not the address of a peer."""


class PeerError(NetworkError):
    """A peer cannot be reached, or does not do what was asked.

    temporary: whether the same may go well later.
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary
