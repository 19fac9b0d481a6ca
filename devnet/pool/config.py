"""The pool's configuration: a ckpool configuration file, with ckpool's meanings.

Difficulties may be fractions here, and some keys are ours alone.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

DEFAULT_PORT: Final = 3333
NODE_URL: Final = "http://127.0.0.1:18443"  # bitcoind's RPC port on regtest

IGNORED: Final = frozenset(
    {"btcaddress", "highdiff", "logdir", "zmqblock", "donation", "nodeserver", "trusted"}
)
"""ckpool's keys that mean nothing to a solo pool of one process: accepted without a warning."""


class ConfigError(ValueError):
    """The configuration is wrong; the text names each fault."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _mask(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{8}", value):
        raise ValueError("is 8 hex digits, as 1fffe000")
    # BIP 9 sets the top three to 001. Jobs have the bits of the mask clear, and would lose them.
    return int(value, 16) & 0x1FFFFFFF


class NodeConfig(BaseModel):
    """One node; several are tried in turn."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str = NODE_URL
    auth: str = ""
    password: str = Field(default="", alias="pass", repr=False)
    cookie: Path | None = None

    @field_validator("url")
    @classmethod
    def _with_scheme(cls, value: str) -> str:
        return value if "://" in value else f"http://{value}"


class PoolConfig(BaseModel):
    """The pool's settings; each field is a key of the file, which the README beside explains.

    Times are in seconds, ``blockpoll`` in milliseconds.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    btcd: list[NodeConfig] = []
    btcsig: str = Field(default="/TheBitcoinGame/", max_length=38, pattern=r"^[\x20-\x7e]*$")
    blockpoll: int = Field(default=100, ge=1)
    nonce1length: int = Field(default=4, ge=2, le=8)
    nonce2length: int = Field(default=8, ge=2, le=8)
    update_interval: float = Field(default=30, gt=0, le=600)
    version_mask: Annotated[int, BeforeValidator(_mask)] = 0x1FFFE000
    serverurl: Annotated[list[str], BeforeValidator(_as_list)] = []
    mindiff: float = Field(default=1e-6, gt=0, allow_inf_nan=False)
    startdiff: float = Field(default=1e-4, gt=0, allow_inf_nan=False)
    maxdiff: float = Field(default=0, ge=0, allow_inf_nan=False)
    maxclients: int = Field(default=4096, ge=1)

    # Ours.
    block_difficulty: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    roots: Path | None = None
    max_per_address: int = Field(default=256, ge=0)
    proxies: Annotated[list[str], BeforeValidator(_as_list)] = []
    tls_serverurl: Annotated[list[str], BeforeValidator(_as_list)] = []
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    handshake_timeout: float = Field(default=30, gt=0)
    idle_timeout: float = Field(default=900, gt=0)
    message_rate: float = Field(default=250, gt=0)
    hashrate_interval: float = Field(default=60, gt=0)

    @classmethod
    def read(cls, path: Path | None, options: dict[str, Any]) -> tuple[Self, list[str]]:
        """Reads a file, if any; returns the configuration and a warning for each unknown key.

        ``options`` that are not None replace the file's values.

        Raises:
            ConfigError: the file is not a JSON object, or values are wrong; names each of them.
        """
        values: Any = {}
        if path is not None:
            try:
                values = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
            if not isinstance(values, dict):
                raise ConfigError(f"{path} is not a JSON object")
        unknown = sorted(values.keys() - cls.model_fields.keys() - IGNORED)
        warnings = [f"{path}: the key {key!r} is unknown and ignored" for key in unknown]
        given = {key: value for key, value in options.items() if value is not None}
        try:
            return cls.model_validate(values | given), warnings
        except ValidationError as error:
            faults = "".join(
                f"\n  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
            )
            raise ConfigError(f"{path or 'the options'}:{faults}") from None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.maxdiff and self.maxdiff < self.mindiff:
            raise ValueError("maxdiff is below mindiff")
        if self.maxclients >= 256**self.nonce1length:
            raise ValueError("nonce1length is too short to tell maxclients connections apart")
        if self.tls_serverurl and self.tls_certificate is None:
            raise ValueError("tls_serverurl needs tls_certificate, a file in PEM format")
        return self


def listen_address(url: str) -> tuple[str, int]:
    """Host and port of a ``serverurl`` (host:port, [ipv6]:port, or either without a port).

    Raises:
        ConfigError: it is anything else.
    """
    match = re.fullmatch(r"(?:[\w+.-]+://)?(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?/?", url)
    if match is None or int(match[3] or 0) > 65535:
        raise ConfigError(f"serverurl {url!r} is not host:port")
    return match[1] or match[2] or "0.0.0.0", int(match[3] or DEFAULT_PORT)  # noqa: S104 - ckpool's meaning of an empty host
