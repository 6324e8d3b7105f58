"""The requesting side: objects are sent to peers (C-STORE) and fetched from them (C-MOVE, C-GET, DICOMweb).

Knows no lake: objects to send come as `Outgoing`, fetched ones go to a `seams.Sink`.
"""
