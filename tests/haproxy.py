"""haproxy with the configuration that compose gives it, in front of a pool of this machine."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.processes import ROOT, running, wait_until

CONFIGURATION: Final = ROOT / "images/stratum-tls/haproxy.cfg"
WHY_NOT: Final = "no haproxy: sudo make -C ckpool tools installs it"


def certificate(folder: Path, name: str = "pool") -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(made)], check=True, capture_output=True
    )
    return made, key


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def tls_in_front_of(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """Runs it until the block ends.

    Yields:
        Its port, and the certificate to trust.
    """
    haproxy = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if haproxy is None:
        pytest.skip(WHY_NOT)
    trusted, key = certificate(folder)
    certificates = folder / "tls"
    certificates.mkdir()
    (certificates / "stratum.pem").write_text(trusted.read_text() + key.read_text())
    listens = free_port()
    text = CONFIGURATION.read_text()
    for old, new in {
        "bind :3334": f"bind 127.0.0.1:{listens}",
        "/etc/tbg/tls/": f"{certificates}/",
        ":3333": f":{port}",
    }.items():
        assert old in text
        text = text.replace(old, new)
    # The comments name the port as well, and are none of haproxy's business.
    (folder / "haproxy.cfg").write_text(text)
    command = [haproxy, "-db", "-f", str(folder / "haproxy.cfg")]
    with running(command, folder / "haproxy.log", {"POOL_HOST": "127.0.0.1"}):
        wait_until(lambda: _answers(listens), "haproxy listens")
        yield listens, trusted


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
