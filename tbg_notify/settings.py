"""Settings of the notifier, from the environment."""

from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tbg_core.database import libpq_url
from tbg_core.database_url import DatabaseUrlError, check
from tbg_core.settings import DatabaseUrl, EnvironmentSettings, LogLevel, Port

_PLAIN: Final = r"^[a-zA-Z0-9_-]+$"


class NotifierSettings(EnvironmentSettings):
    """Settings of the notifier: outbox → channels."""

    database_url: DatabaseUrl = Field(
        description="PostgreSQL or TimescaleDB, as postgresql://user:password@host:5432/name",
        repr=False,
    )
    dagster_pg_url: str | None = Field(
        default=None,
        description="Dagster's own database, whose heartbeats are watched; without it none are",
        repr=False,
    )
    alerts_file: Path | None = Field(
        default=None, description="the routes, docs/alerts.md; without it nothing is sent"
    )
    alert_webhook_url: str | None = Field(
        default=None,
        description="a web address that gets the system's alerts and silent workers as JSON",
        repr=False,
    )
    bitcoin_rpc_url: str | None = Field(
        default=None,
        description="the node, which is asked every half minute whether it answers; without it"
        " the node is not watched",
        repr=False,
    )
    bitcoin_rpc_user: str = Field(default="", description="user of the node's RPC")
    bitcoin_rpc_password: str = Field(default="", description="its password", repr=False)
    bitcoin_rpc_cookie_file: str = Field(
        default="", description="the node's cookie file, instead of user and password"
    )
    disk_path: Path = Field(
        default=Path("/"),
        description="a folder on the disk whose free room is watched: people hear of less than 5 %",
    )
    mqtt_url: str | None = Field(
        default=None,
        description="a broker that gets sensors of miners for Home Assistant, as"
        " mqtt://user:password@host:1883, or mqtts:// with TLS; none by default",
        repr=False,
    )
    mqtt_users: str = Field(
        default="",
        description="addresses whose sensors it gets, separated by commas; of the first"
        " 20 miners that are active if left out",
    )
    mqtt_topic: str = Field(
        default="tbg",
        pattern=_PLAIN,
        description="first level of our topics; each pool of a broker needs one of its own",
    )
    mqtt_discovery: str = Field(
        default="homeassistant", pattern=_PLAIN, description="Home Assistant's discovery prefix"
    )
    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING, ERROR")
    log_format: Literal["console", "json"] = Field(
        default="console", description="console for people, json for machines"
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="address of /metrics, /healthz and /readyz"
    )
    notifier_metrics_port: Port = Field(
        default=9103, description="port of the notifier's metrics; 0 for none"
    )

    @field_validator(
        "alerts_file",
        "alert_webhook_url",
        "dagster_pg_url",
        "bitcoin_rpc_url",
        "mqtt_url",
        mode="before",
    )
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("mqtt_url")
    @classmethod
    def _is_a_broker(cls, value: str | None) -> str | None:
        # The text does not repeat the URL, which may hold a password.
        wrong = "must look like mqtt://user:password@host:1883, or mqtts:// with TLS"
        try:
            parts = urlsplit(value or "mqtt://none")
            right = parts.scheme in ("mqtt", "mqtts") and parts.hostname and parts.port != 0
        except ValueError:
            raise ValueError(wrong) from None
        if not right or parts.path.strip("/"):
            raise ValueError(wrong)
        return value

    @property
    def users(self) -> list[str]:
        """Addresses whose sensors a broker gets; none: of any."""
        return [part.strip() for part in self.mqtt_users.split(",") if part.strip()]

    @field_validator("dagster_pg_url")
    @classmethod
    def _without_a_driver(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return libpq_url(check(value))  # Dagster's own setting names a driver
        except DatabaseUrlError as error:
            raise ValueError(error.reason) from None
