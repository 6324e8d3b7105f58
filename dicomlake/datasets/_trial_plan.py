"""The plan of the trial: who comes when, on which scanner, with which protocol, and what there is to see."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from dicomlake.datasets._noise import hashed
from dicomlake.datasets._truth import uid

NAME = "trial"
PATIENTS = 24
FIRST_DAY = datetime.date(2023, 3, 6)
UPGRADE = datetime.date(2023, 10, 16)
"""From this day on the second scanner reconstructs with another kernel, at another kVp."""


@dataclass(frozen=True)
class Scanner:
    """A scanner and its usual chest protocol. All of them are invented."""

    manufacturer: str
    model: str
    station: str
    thickness_mm: Fraction
    kvp: int
    kernel: str


SCANNERS = (
    Scanner("Northwind Medical", "Cirrus 64", "CT1", Fraction(5), 120, "SOFT"),
    Scanner("Ampère Imaging", "Volt CT", "CT2", Fraction(5), 120, "B30"),
    Scanner("Kestrel Systems", "Kestrel One", "CT3", Fraction(4), 110, "STANDARD"),
)


@dataclass(frozen=True)
class Patient:
    """A patient of the trial; responds: the lesion shrinks from visit to visit, else it grows."""

    number: int
    seed: int

    @property
    def _draw(self) -> int:
        return int(hashed(self.seed, 7, self.number, 0)[0])

    @property
    def id(self) -> str:
        """PatientID."""
        return f"DL-TRIAL-{self.seed:04d}-{self.number:03d}"

    @property
    def sex(self) -> str:
        """PatientSex."""
        return "FM"[self._draw >> 3 & 1]

    @property
    def born(self) -> datetime.date:
        """PatientBirthDate."""
        return datetime.date(1938 + self._draw % 47, 1 + self._draw // 47 % 12, 1 + self._draw // 97 % 28)

    @property
    def arm(self) -> str:
        """Of the trial."""
        return "AB"[self.number % 2]

    @property
    def responds(self) -> bool:
        """Most of arm B, some of arm A."""
        return (self._draw >> 8) % 10 < (7 if self.arm == "B" else 3)

    @property
    def visits(self) -> int:
        """How often the patient came: 2 to 4 times."""
        return 2 + (self._draw >> 12) % 3


@dataclass(frozen=True)
class Exam:
    """What is done at one visit: a CT, a report of it, on most visits a PET some days later."""

    patient: Patient
    number: int

    @property
    def _draw(self) -> int:
        return int(hashed(self.patient.seed, 11 + self.number, self.patient.number, 1)[0])

    @property
    def day(self) -> datetime.date:
        """StudyDate of the CT: about every 70 days."""
        start = self.patient.number * 11 + self.number * 70
        return FIRST_DAY + datetime.timedelta(days=start + self._draw % 15)

    @property
    def pet_day(self) -> datetime.date | None:
        """StudyDate of the PET: 2 to 50 days after the CT; None without one."""
        draw = self._draw >> 8
        return None if draw % 5 == 0 else self.day + datetime.timedelta(days=2 + draw // 5 % 49)

    @property
    def scanner(self) -> Scanner:
        """Patients stay with their scanner, but for one visit in eight."""
        moved = self._draw >> 16 & 7 == 0
        return SCANNERS[(self.patient.number + moved) % len(SCANNERS)]

    @property
    def kvp(self) -> int:
        """Of the CT; now and then somebody takes another than the protocol says."""
        if self._draw >> 20 & 15 == 0:
            return 80
        return 100 if self.upgraded else self.scanner.kvp

    @property
    def upgraded(self) -> bool:
        """Whether the scanner runs its newer software."""
        return self.scanner is SCANNERS[1] and self.day >= UPGRADE

    @property
    def kernel(self) -> str:
        """ConvolutionKernel of the CT."""
        return "Br36" if self.upgraded else self.scanner.kernel

    @property
    def radius_mm(self) -> int:
        """Of the lesion."""
        first = 14 + self.patient.number % 7
        return max(first + self.number * (-4 if self.patient.responds else 3), 4)

    @property
    def centre_mm(self) -> tuple[int, int, int]:
        """Of the lesion, LPS; the middle of the body lies at 0, 0, 0."""
        return (-48 + self.patient.number % 5 * 4, -12 + self.patient.number % 3 * 8, -6)

    def uid(self, *parts: object) -> str:
        """A UID of this exam."""
        return uid(NAME, self.patient.seed, self.patient.number, self.number, *parts)


def exams(patients: int, seed: int) -> Iterator[Exam]:
    """All exams, patient by patient."""
    for number in range(patients):
        patient = Patient(number, seed)
        for visit in range(patient.visits):
            yield Exam(patient, visit)
