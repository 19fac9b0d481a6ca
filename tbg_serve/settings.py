"""Settings of ``tbg serve``, from the environment."""

import ipaddress
import re
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator

from tbg_core.settings import DatabaseUrl, EnvironmentSettings, LogLevel, Port, RedisUrl

_ORIGIN: Final = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#@*\s]+")
ELSEWHERE_RATE = 50.0
"""Requests a second of one address where others than this machine can reach us."""


class ServeSettings(EnvironmentSettings):
    """Settings of the read-only HTTP interface."""

    database_url: DatabaseUrl = Field(
        description="PostgreSQL or TimescaleDB, as postgresql://user:password@host:5432/name;"
        " the role tbg_serve may read what is served, and nothing else",
        repr=False,
    )
    redis_url: RedisUrl = Field(
        description="Redis or Valkey, as redis://user:password@host:6379/0; several hosts, Sentinel"
        " and clusters as for the receiver",
        repr=False,
    )
    serve_host: str = Field(
        default="127.0.0.1", description="address to listen on; 0.0.0.0 opens it to others"
    )
    serve_port: Port = Field(default=8100, description="port to listen on")
    serve_origins: str = Field(
        default="",
        description="web origins whose pages may read the answers (CORS), separated by commas;"
        " * for all",
    )
    serve_proxies: str = Field(
        default="",
        description="addresses or networks of reverse proxies, separated by commas: their X-Forwarded-For"
        " says whose request it is",
    )
    serve_rate: float | None = Field(
        default=None,
        ge=0,
        description="most requests a second of one address (of a /64 of IPv6); 0 for no limit;"
        f" unless set, {ELSEWHERE_RATE:.0f}, and no limit while SERVE_HOST is this machine's own",
    )
    serve_events: int = Field(
        default=1000, ge=0, description="most listeners to /v1/events at once"
    )
    serve_events_each: int = Field(
        default=20, ge=1, description="most listeners to /v1/events of one address"
    )
    serve_cells: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.\-, ]*$",
        description="cells whose events /v1/events has, separated by commas, beside one without"
        " a name",
    )
    serve_connections: int = Field(
        default=4, ge=1, le=100, description="most connections to the database"
    )
    serve_query_seconds: float = Field(
        default=5.0, gt=0, le=60, description="seconds until a query is given up, and 503 answers"
    )
    serve_cache_seconds: float = Field(
        default=2.0, ge=0, le=60, description="how long an answer is kept; a costly one is longer"
    )
    serve_cache_bytes: int = Field(
        default=64 * 2**20, ge=0, description="most bytes of answers that are kept"
    )
    serve_miner_metrics: bool = Field(
        default=False,
        description="whether /metrics lists every worker: their number may be great",
    )
    serve_files: Path | None = Field(
        default=None, description="folder for ckpool's files, written every minute; none by default"
    )
    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING, ERROR")
    log_format: Literal["console", "json"] = Field(
        default="console", description="console for people, json for machines"
    )

    @field_validator("serve_rate", "serve_files", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("serve_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        """As browsers write them: a scheme and a host, in small letters, and no path."""
        found = [origin.rstrip("/").lower() for origin in _list(value)]
        for origin in found:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: write it as https://game.example, or *")
        return ",".join(found)

    @field_validator("serve_proxies")
    @classmethod
    def _proxies(cls, value: str) -> str:
        for proxy in _list(value):
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError(
                    f"{proxy!r} is no address: write it as 10.0.0.2, or a network as 10.0.0.0/24"
                ) from None
        return value

    @property
    def rate(self) -> float:
        """Most requests a second of one address; 0 for no limit."""
        if self.serve_rate is not None:
            return self.serve_rate
        return 0.0 if self.is_local else ELSEWHERE_RATE

    @property
    def is_local(self) -> bool:
        """Whether nothing but this machine can connect."""
        try:
            return ipaddress.ip_address(self.serve_host).is_loopback
        except ValueError:
            return self.serve_host == "localhost"

    @property
    def origins(self) -> list[str]:
        """Web origins that may read the answers."""
        return _list(self.serve_origins)

    @property
    def cells(self) -> list[str]:
        """Names of cells, the empty one included."""
        return list(dict.fromkeys(["", *_list(self.serve_cells)]))

    @property
    def proxies(self) -> list[str]:
        """Reverse proxies that are believed."""
        named = [ipaddress.ip_network(proxy) for proxy in _list(self.serve_proxies)]
        # A socket of both families has a peer of IPv4 as ::ffff:10.0.0.2.
        mapped = [
            f"::ffff:{network.network_address}/{96 + network.prefixlen}"
            for network in named
            if network.version == 4
        ]
        return [*map(str, named), *mapped]


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
