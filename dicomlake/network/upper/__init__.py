"""The DICOM upper layer protocol over TCP (PS3.8): PDUs as bytes, what is agreed, and the socket under it.

Nothing here knows a DIMSE message or a lake. `pdu` and `negotiation` are pure; `wire` owns the socket.
"""
