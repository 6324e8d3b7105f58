"""Where DICOM bytes come from: files, folders, archives, a DICOMDIR, bytes in memory.

`discover` turns whatever a user passes into a lazy stream of items, one for each file met:

- `Candidate`: bytes that may be a DICOM object, to be ingested;
- `Skipped`: not DICOM, and nobody said it was: named in the report, never an error;
- `Refused`: should have been readable and is not: kept in the report with a remedy.

Nothing here reads further into DICOM than the first 4096 bytes, except for the directory records
of a DICOMDIR. Names found in folders and archives come from outside: they are printed (escaped)
and never used to build a path.
"""

from dicomlake.ingest.sources.content import BytesContent, Content, FileContent, SpooledContent
from dicomlake.ingest.sources.discover import Source, count, discover
from dicomlake.ingest.sources.items import DEFAULT_LIMITS, Candidate, Item, Limits, Refused, Skipped

__all__ = [
    "DEFAULT_LIMITS",
    "BytesContent",
    "Candidate",
    "Content",
    "FileContent",
    "Item",
    "Limits",
    "Refused",
    "Skipped",
    "Source",
    "SpooledContent",
    "count",
    "discover",
]
