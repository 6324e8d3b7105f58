"""What the browser tells of one series, and of what is wrong in a lake."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dicomlake.catalog.schema import SERIES_COLUMNS
from dicomlake.dicom import standard
from dicomlake.records import SeriesKey
from dicomlake.widgets.browser.describing import Troubles, labels_of, told
from dicomlake.widgets.browser.documents import of_study
from dicomlake.widgets.browser.source import Lake

_MOST = 500  # findings, and refused objects, that are listed


def details(lake: Lake, troubles: Troubles, series_id: int, key: SeriesKey) -> dict[str, Any]:
    """Facts, volumes, labels, findings and documents of a series, in JSON types."""
    (row,) = lake.series_rows([series_id])
    instances = lake.instances(key)
    findings, _ = troubles.of(key)
    syntaxes = Counter(standard.uid_name(one.transfer_syntax) for one in instances)
    facts = [[name, row[name]] for name in SERIES_COLUMNS if row.get(name) not in (None, "")]
    return {
        "id": series_id,
        "uid": key.series_uid,
        "facts": facts,
        "kind": standard.uid_name(row.get("SOPClassUID") or ""),
        "syntaxes": [f"{name} ({count})" for name, count in syntaxes.most_common()],
        "volumes": [
            {
                "number": one.number,
                "verdict": one.verdict,
                "reason": one.reason,
                "dims": list(one.dims),
                "shape": list(one.shape),
                "dtype": one.dtype,
                "spacing_mm": None if one.spacing_mm is None else [round(mm, 4) for mm in one.spacing_mm],
                "units": one.info.get("units"),
                "built": one.built,
            }
            for one in lake.series_volumes(key)
        ],
        "labels": labels_of(lake, [series_id]).get(series_id, []),
        "findings": [told(one) for one in findings[:_MOST]],
        "conflicts": [one.sop_instance_uid for one in instances if one.conflict],
        "documents": of_study(lake, series_id),
    }


def problems(lake: Lake) -> dict[str, Any]:
    """Findings and refused objects of a lake, the grave ones first, with how many there are."""
    grave = ("error", "warning", "info")
    findings = sorted(lake.findings(), key=lambda one: grave.index(one.severity))
    refused = lake.refused()
    return {
        "findings": [told(one) for one in findings[:_MOST]],
        "all_findings": len(findings),
        "refused": [
            {"sha256": one.sha256, "size": one.size, "reason": one.reason, "origin": one.origin}
            for one in refused[:_MOST]
        ],
        "all_refused": len(refused),
        "reasons": Counter(one.reason for one in refused).most_common(20),
    }
