"""The rows of the scale fixture as SQL: what `idc-index-data` lacks is computed from the place of a row.

Nothing is drawn at random, and no function is used whose results may change with DuckDB, such as `hash`.
"""

from __future__ import annotations

from dicomlake.catalog import schema

# As the Parquet of idc-index-data, as far as it is used; for fixtures that must not need the package.
MADE_UP = """FROM (SELECT 'P' || lpad((i // 12)::VARCHAR, 6, '0') AS PatientID,
    '2.25.1' || lpad((i // 6)::VARCHAR, 9, '0') AS StudyInstanceUID,
    '2.25.2' || lpad(i::VARCHAR, 9, '0') AS SeriesInstanceUID,
    ['F', 'M', NULL][1 + i // 12 % 3] AS PatientSex,
    lpad((20 + i // 12 % 70)::VARCHAR, 3, '0') || 'Y' AS PatientAge,
    '20' || lpad((i // 6 % 24)::VARCHAR, 2, '0') || '-0' || (1 + i % 9)::VARCHAR || '-11' AS StudyDate,
    StudyDate AS SeriesDate, 'Study ' || (i // 6 % 40)::VARCHAR AS StudyDescription,
    ['CT', 'MR', 'SR', 'SEG', 'CT', 'PT', 'MG'][1 + i % 7] AS Modality,
    ['CHEST', 'BREAST', NULL, 'ABDOMEN', 'HEAD'][1 + i % 5] AS BodyPartExamined,
    ['SIEMENS', 'GE MEDICAL SYSTEMS', 'Philips', 'QIICR'][1 + i % 4] AS Manufacturer,
    'Model ' || (i % 37)::VARCHAR AS ManufacturerModelName,
    'Series ' || (i % 97)::VARCHAR AS SeriesDescription,
    '1.2.840.10008.5.1.4.1.1.2' AS SOPClassUID, (i % 9)::VARCHAR AS SeriesNumber,
    'collection ' || (i // 12 % 30)::VARCHAR AS collection_id,
    1 + i * 37 % 300 AS instanceCount, instanceCount * 0.5 AS series_size_MB FROM range({series}) AS r(i))
"""

# The columns of the catalog. k: the place of a row, from 1; IDC's dates have hyphens, its text may hold NUL.
# The catalog has no column for IDC's collection; it stands where a site would.
_COLUMNS = {
    "IssuerOfPatientID": "''",
    "StudyDate": "replace(StudyDate, '-', '')",
    "SeriesDate": "replace(SeriesDate, '-', '')",
    "AccessionNumber": "'A' || (k // 6)::VARCHAR",
    "ProtocolName": "Modality || ' protocol ' || (k % 23)::VARCHAR",
    "Laterality": "CASE WHEN Modality = 'MG' THEN ['L', 'R'][1 + k % 2] END",
    "InstitutionName": "collection_id",
    "StationName": "'STATION' || (k % 41)::VARCHAR",
    "FrameOfReferenceUID": "StudyInstanceUID || '.1'",
    "ImageType": "['ORIGINAL\\PRIMARY\\AXIAL', 'ORIGINAL\\PRIMARY', 'DERIVED\\SECONDARY'][1 + k % 3]",
    "ConvolutionKernel": "CASE WHEN Modality = 'CT' THEN ['B30f', 'B50f', 'STANDARD', 'LUNG'][1 + k % 4] END",
    "ContrastBolusAgent": "CASE WHEN k % 5 = 0 THEN 'Gd-DTPA' END",
    "PatientPosition": "['HFS', 'FFS', 'HFP'][1 + k % 3]",
    "SeriesNumber": "try_cast(SeriesNumber AS BIGINT)",
    "Rows": "[512, 256, 1024][1 + k % 3]",
    "Columns": "[512, 256, 1024][1 + k % 3]",
    "PatientAge": "try_cast(regexp_extract(PatientAge, '^(\\d{3})Y$', 1) AS DOUBLE)",
    "PixelSpacing": "0.5 + k % 50 / 100.0",
    "SliceThickness": "[0.625, 1.25, 2.5, 3, 5][1 + k % 5]",
    "KVP": "CASE WHEN Modality IN ('CT', 'MG') THEN [80, 100, 110, 120, 130, 140][1 + k % 6] END",
    "MagneticFieldStrength": "CASE WHEN Modality = 'MR' THEN [1.5, 3][1 + k % 2] END",
    "RepetitionTime": "CASE WHEN Modality = 'MR' THEN 400 + k % 4000 END",
    "EchoTime": "CASE WHEN Modality = 'MR' THEN 5 + k % 950 / 10.0 END",
    "FlipAngle": "CASE WHEN Modality = 'MR' THEN k % 180 END",
    "instances": "instanceCount",
    "bytes": "(series_size_MB * 1e6)::BIGINT",
}

_AS_THEY_ARE = frozenset(
    {
        *("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "PatientSex", "StudyDescription", "Modality"),
        *("SeriesDescription", "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "SOPClassUID"),
    }
)


def series_rows(source: str, series: int) -> str:
    """The rows of the catalog, whole patients in a fixed order, from a FROM clause like idc-index-data's."""
    columns = ", ".join(f"{_typed(name)} AS {name}" for name in schema.SERIES_COLUMNS)
    order = "md5(PatientID), StudyInstanceUID, SeriesInstanceUID"
    numbered = (
        f"SELECT *, row_number() OVER (ORDER BY {order}) AS k {source.replace('{series}', str(series))}"
    )
    return f"SELECT k AS series_id, {columns} FROM ({numbered}) WHERE k <= {series} ORDER BY k"


def _typed(name: str) -> str:
    """A column as SQL; text without NUL, which IDC's holds and the catalog strips."""
    given = name if name in _AS_THEY_ARE else _COLUMNS[name]
    if name in schema.NUMBER_FACETS:
        return f"({given})::DOUBLE"
    if name in (*schema.WHOLE_FACETS, "instances", "bytes"):
        return f"({given})::BIGINT"
    return f"replace(({given})::VARCHAR, chr(0), '')"
