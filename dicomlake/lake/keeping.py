"""What people add to a lake, and no original holds: labels, clinical tables, results of computations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dicomlake.catalog import clinical, clinical_rows, labels
from dicomlake.lake.reading import Reading
from dicomlake.tables import frame

if TYPE_CHECKING:
    import pandas as pd

    from dicomlake.catalog.clinical import ClinicalReport
    from dicomlake.catalog.labels import LabelReport
    from dicomlake.catalog.targets import Level
    from dicomlake.cohorts.computing.derived import Derived
    from dicomlake.cohorts.computing.result import Result


class Keeping(Reading):
    """A lake as one writes down in it what was found."""

    # ---- labels and notes -----------------------------------------------------------------------------

    def set_label(
        self,
        targets: Any,
        name: str,
        value: str | float | bool,
        *,
        note: str | None = None,
        who: str | None = None,
        level: Level | None = None,
    ) -> LabelReport:
        """Label one thing or many: series, a cohort, UIDs of studies, series or instances, volumes.

        Queries then find it: `lake.query(label__quality="good")`. A new value closes the former one, which
        stays as history; the change is a file in the lake before it counts.
        value: text, a number or a bool. level: label what they are part of, such as the patient of each.
        who: DICOMLAKE_USER or the login name unless given. Raises QueryError for a name or value that cannot
        be kept, and when the lake holds none of the targets; those it does not hold are in the report.
        """
        found = labels.set_label
        return found(self._catalog, self._storage, targets, name, value, note=note, who=who, level=level)

    def remove_label(
        self,
        targets: Any,
        name: str,
        *,
        note: str | None = None,
        who: str | None = None,
        level: Level | None = None,
    ) -> LabelReport:
        """Take a label off; its history stays. Raises as `set_label`."""
        found = labels.remove_label
        return found(self._catalog, self._storage, targets, name, note=note, who=who, level=level)

    def labels(
        self, targets: Any = None, *, name: str | None = None, level: Level | None = None
    ) -> pd.DataFrame:
        """One row a label in force, on all things or on these, with who set it and when."""
        with self._catalog.read() as view:
            return frame(labels.labels(view, targets, name=name, level=level), labels.LABEL)

    def label_history(self, target: Any, name: str | None = None) -> pd.DataFrame:
        """All that was ever said of one thing, the oldest first; a removal has no value."""
        with self._catalog.read() as view:
            return frame(labels.history(view, target, name), (*labels.LABEL, "change"))

    # ---- clinical tables ------------------------------------------------------------------------------

    def import_clinical(self, table: str, source: Any, **how: Any) -> ClinicalReport:
        """Take in a clinical table, joined to patients or studies; its columns are then asked like elements.

        `lake.import_clinical("trial", "trial.csv")`, then `lake.query(**{"clinical.trial.arm": "A"})`.
        source: a CSV or Parquet file, a data frame, or rows as dicts. how: that of
            `catalog.clinical.import_clinical`: on ("PatientID" or "AccessionNumber"), key, date and
            within_days (the study of the patient nearest in time), issuer, encoding, delimiter, decimal …
        Taken in again, its rows replace the former ones. Raises QueryError for a table that cannot be read.
        """
        return clinical.import_clinical(self._catalog, self._storage, table, source, **how)

    def clinical(self, table: str | None = None) -> pd.DataFrame:
        """A clinical table as it was taken in, with what each row belongs to; or one row for each table."""
        with self._catalog.read() as view:
            if table is None:
                return frame(clinical_rows.clinical_tables(view), ("table", "rows", "columns"))
            return frame(clinical_rows.clinical(view, table))

    def drop_clinical(self, table: str, *, who: str | None = None) -> None:
        """Take a clinical table out. Raises QueryError when there is none."""
        clinical.drop_clinical(self._catalog, self._storage, table, who=who)

    # ---- results --------------------------------------------------------------------------------------

    def derived(self) -> list[Derived]:
        """What `Cohort.map` kept under names, with the code, inputs and versions that made it."""
        from dicomlake.cohorts.computing import derived

        return derived.derived(self._storage)

    def open_derived(self, name: str, number: int | None = None) -> Result:
        """A kept result, the newest of its name unless numbered. Raises VolumeError when there is none."""
        from dicomlake.cohorts.computing import derived

        return derived.open_derived(self._storage, name, number)
