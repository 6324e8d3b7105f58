"""Certificates made on the fly by the program `openssl`, for tests of TLS."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="the program openssl is not installed")


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder, which makes certificates for others."""

    folder: Path
    name: str = "authority"

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @property
    def key(self) -> Path:
        return self.folder / f"{self.name}.key"

    @classmethod
    def make(cls, folder: Path, name: str = "authority") -> Authority:
        made = cls(folder, name)
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={name}", "-keyout", made.key, "-out", made.certificate),
        )
        return made

    def issue(self, name: str, *, days: int = 2, password: str = "") -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 and localhost, and its key; days < 0 makes one that has ended."""
        request, certificate, key = (self.folder / f"{name}{end}" for end in (".csr", ".pem", ".key"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        protect = ["-passout", f"pass:{password}"] if password else ["-nodes"]
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *protect),
            *("-subj", f"/CN={name}", "-keyout", key, "-out", request),
        )
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"),
            *("-days", days, "-extfile", extensions, "-out", certificate),
        )
        return certificate, key


def openssl(*words: object) -> str:
    """Run the program."""
    assert OPENSSL is not None
    done = subprocess.run([OPENSSL, *map(str, words)], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout
