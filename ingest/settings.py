"""Settings of the daemon, from the environment, checked at start.

``tbg docs`` lists them in docs/settings.md. Nothing here has a password as its default.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tbg_core.settings import (
    SUN_PATH_MAX,
    DatabaseUrl,
    EnvironmentSettings,
    LogLevel,
    Port,
    RedisUrl,
    RetentionSettings,
)


class StageSettings(EnvironmentSettings):
    """What both stages need."""

    redis_url: RedisUrl = Field(
        description=(
            "Redis or Valkey, as redis://user:password@host:6379/0; several hosts with commas"
            " between; redis+sentinel://…/name asks Sentinel"
        ),
        repr=False,
    )
    cell: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.-]{0,32}$",
        description=(
            "name of the engines, receivers and streams that one writer serves; empty where one"
            " machine is enough, needed in a cluster"
        ),
    )
    log_level: LogLevel = Field(
        default="INFO", description="DEBUG logs one line per event; then INFO, WARNING, ERROR"
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="console for people, json for machines"
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="address of /metrics, /healthz and /readyz"
    )


class ReceiverSettings(StageSettings):
    """Settings of the receiver: event socket → Redis streams."""

    socket_path: Path = Field(
        default=Path("/tmp/ckpool/events.sock"),  # noqa: S108  the place that ckpool's fork agrees on
        description="Unix datagram socket that engines send their events to",
    )
    socket_mode: str = Field(
        default="660",
        pattern=r"^[0-7]{3,4}$",
        description="permissions of the socket, octal: who may write events",
    )
    socket_group: str = Field(
        default="", description="group that owns the socket; empty keeps the daemon's own"
    )
    queue_length: int = Field(
        default=4096,
        ge=10,
        le=1_000_000,
        description="net.unix.max_dgram_qlen to ask for before binding, where allowed",
    )
    publish_batch: int = Field(
        default=1000, ge=1, le=100_000, description="most events in one round trip to Redis"
    )
    memory_events: int = Field(
        default=2048,
        ge=10,
        description=(
            "most events held between socket and Redis, those in flight included; past it,"
            " reading pauses. Never more than engines send again to the next receiver (2,048, less"
            " what the kernel may hold)"
        ),
    )
    spool_dir: Path | None = Field(
        default=None,
        description=(
            "folder that keeps events while Redis is away, of this receiver alone; unless set,"
            " a folder in spool/ that is named after SOCKET_PATH"
        ),
    )
    spool_max_bytes: int = Field(
        default=4 * 2**30,
        ge=2**20,
        description="most bytes in the spool; past it the newest events are dropped and counted",
    )
    redis_timeout: float = Field(
        default=5.0, gt=0, description="seconds without an answer until Redis counts as away"
    )
    redis_confirm: Literal["", "local", "replica"] = Field(
        default="",
        description=(
            "what must have events before they count as published: local, the disk of Redis;"
            " replica, one of its replicas; empty, its memory"
        ),
    )
    receiver_metrics_port: Port = Field(
        default=9101, description="port of the receiver's metrics; 0 for none"
    )

    @property
    def spool(self) -> Path:
        """The spool's folder: two sockets on one machine never share one."""
        path = os.path.abspath(self.socket_path).lstrip("/")
        name = path.replace("%", "%25").replace("-", "%2D").replace("/", "-")
        return self.spool_dir or Path("spool") / name

    @field_validator("socket_path")
    @classmethod
    def _fits(cls, value: Path) -> Path:
        if len(os.fsencode(value)) > SUN_PATH_MAX:
            raise ValueError(f"is longer than {SUN_PATH_MAX} bytes, the limit of a Unix socket")
        return value


class WriterSettings(StageSettings, RetentionSettings):
    """Settings of the writer: Redis streams → database."""

    database_url: DatabaseUrl = Field(
        description="PostgreSQL or TimescaleDB, as postgresql://user:password@host:5432/name",
        repr=False,
    )
    consumer: str = Field(
        default="writer",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="name that this writer's offsets are kept under",
    )
    batch_size: int = Field(
        default=4000,
        ge=1,
        le=100_000,
        description="entries in one transaction; up to twice as many where one read brings them",
    )
    flush_seconds: float = Field(
        default=0.3, gt=0, le=1.0, description="longest wait for a batch to fill"
    )
    stream_keep: int = Field(
        default=100_000,
        ge=0,
        description="committed entries kept in each stream for other readers",
    )
    writer_metrics_port: Port = Field(
        default=9102, description="port of the writer's metrics; 0 for none"
    )
