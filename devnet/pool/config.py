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

    url: str = Field(default=NODE_URL, description="host:port, or http://host:port")
    auth: str = Field(default="", description="RPC user")
    password: str = Field(default="", alias="pass", description="RPC password", repr=False)
    cookie: Path | None = Field(default=None, description="cookie file, instead of auth and pass")

    @field_validator("url")
    @classmethod
    def _with_scheme(cls, value: str) -> str:
        return value if "://" in value else f"http://{value}"


class PoolConfig(BaseModel):
    """The pool's settings; each field is a key of the file. Times are in seconds unless noted."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    btcd: list[NodeConfig] = Field(default=[], description="nodes; the first that answers is used")
    btcsig: str = Field(
        default="/TheBitcoinGame/",
        max_length=38,
        pattern=r"^[\x20-\x7e]*$",
        description="signature in the coinbase, ASCII",
    )
    blockpoll: int = Field(
        default=100,
        ge=1,
        description="milliseconds between two looks at the tip, without a long poll",
    )
    nonce1length: int = Field(
        default=4, ge=2, le=8, description="extranonce bytes that tell connections apart"
    )
    nonce2length: int = Field(
        default=8, ge=2, le=8, description="extranonce bytes that a miner rolls"
    )
    update_interval: float = Field(default=30, gt=0, le=600, description="between two templates")
    version_mask: Annotated[int, BeforeValidator(_mask)] = Field(
        default=0x1FFFE000, description="version bits that a miner may roll (BIP 310), hex"
    )
    serverurl: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        default=[], description="host:port to listen on"
    )
    mindiff: float = Field(default=1e-6, gt=0, allow_inf_nan=False, description="lowest difficulty")
    startdiff: float = Field(default=1e-4, gt=0, allow_inf_nan=False, description="first one")
    maxdiff: float = Field(
        default=0, ge=0, allow_inf_nan=False, description="highest difficulty, 0 for none"
    )
    maxclients: int = Field(default=4096, ge=1, description="connections at once")

    # Ours.
    block_difficulty: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="on regtest: the share difficulty that makes a block (default 0.005)",
    )
    max_per_address: int = Field(default=256, ge=1, description="connections at once from one IP")
    handshake_timeout: float = Field(default=30, gt=0, description="until a miner has authorised")
    idle_timeout: float = Field(
        default=900, gt=0, description="without a line until a miner is closed"
    )
    message_rate: float = Field(
        default=250, gt=0, description="lines per second that are read of one connection"
    )
    hashrate_interval: float = Field(default=60, gt=0, description="between two hashrate_updates")

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
