"""Make certificates of a test authority, with openssl."""

import shutil
import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority. Its folder holds `ca.pem`, and `NAME.pem` and `NAME.key` of each issued certificate."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        """Make the certificate of the authority."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca = folder, folder / "ca.pem"
        self._call("req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", f"/CN={name}")

    def issue(self, name: str, alternatives: str, days: int = 2) -> None:
        """Issue a certificate. `alternatives` are host names as openssl writes them: `DNS:localhost,IP:127.0.0.1`."""
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\n")
        self._call("req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        self._call("x509", *signed, "-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.pem")

    def _call(self, *words: str) -> None:
        openssl = shutil.which("openssl")
        assert openssl, "openssl is missing: install it"
        subprocess.run([openssl, *words], cwd=self.folder, check=True, capture_output=True, timeout=20)
