"""TLS on the Stratum port: ESP-Miner and others connect to stratum+ssl:// addresses."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from devnet.pool.config import ConfigError

log = structlog.get_logger("pool.server")


@dataclass(slots=True)
class Certificate:
    """The pool's certificate and its key, in PEM files; ``key`` None if the first holds both.

    Raises:
        ConfigError: they cannot be read, or do not belong together.
    """

    certificate: Path
    key: Path | None
    context: ssl.SSLContext = field(init=False)
    _loaded: tuple[float, ...] = field(init=False)  # when the files were written

    def __post_init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            self._load()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"tls_certificate {self.certificate}: {error}; it is a PEM file with the "
                "certificate, and tls_key another one with its key"
            ) from None

    def renew(self) -> None:
        """Reads the files again if they have changed: a certificate expires while the pool runs.

        Connections that are open keep theirs.
        """
        try:
            if self._written() != self._loaded:
                self._load()
                log.info("certificate renewed", path=str(self.certificate))
        except (OSError, ValueError) as error:
            log.error("certificate not renewed", path=str(self.certificate), error=str(error))

    def _load(self) -> None:
        self._loaded = self._written()
        # A key with a password would ask the terminal for it.
        self.context.load_cert_chain(self.certificate, self.key, password=_no_password)

    def _written(self) -> tuple[float, ...]:
        return tuple(path.stat().st_mtime for path in (self.certificate, self.key) if path)


def _no_password() -> str:
    raise ValueError("the key has a password: the pool needs one without")
