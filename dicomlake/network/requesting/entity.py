"""An application entity of pynetdicom whose connections close, also those that failed to be made.

pynetdicom closes a socket only after it could shut it down, which one without a peer cannot be.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket


class Entity(ApplicationEntity):
    """Makes associations."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[ssl.SSLContext, str] | None
    ) -> AssociationSocket:
        made = _Connection(assoc, address=address)
        made.tls_args = tls_args
        return made


class _Connection(AssociationSocket):
    def _shutdown_socket(self) -> None:
        held = self.socket
        super()._shutdown_socket()
        if held is not None:
            with suppress(OSError):
                held.close()
