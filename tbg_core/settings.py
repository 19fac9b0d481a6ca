"""Settings from the environment: their base, their types, and those that several rooms share."""

import os
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

# struct sockaddr_un: 108 bytes on Linux, 104 on macOS, the last one NUL.
SUN_PATH_MAX = 107 if os.uname().sysname == "Linux" else 103


class SettingsError(ValueError):
    """Settings are wrong or missing; the text names each, for a person."""


def _redis_url(value: str) -> str:
    from tbg_core.redis_server import check_url  # redis, for those who use it

    return check_url(value)


def _database_url(value: str) -> str:
    from tbg_core.database_url import DatabaseUrlError, check  # psycopg, for those who use it

    try:
        return check(value)
    except DatabaseUrlError as error:
        raise ValueError(error.reason) from None


RedisUrl = Annotated[str, AfterValidator(_redis_url)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Port = Annotated[int, Field(ge=0, le=65535)]


class EnvironmentSettings(BaseSettings):
    """Settings that come from the environment."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Reads the environment; ``overrides`` win over it.

        Raises:
            SettingsError: naming every wrong or missing variable.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            lines = []
            for item in error.errors():
                name = str(item["loc"][0]).upper() if item["loc"] else "settings"
                if item["type"] == "missing":
                    field = cls.model_fields[name.lower()]
                    lines.append(f"  {name} is not set: {field.description}")
                else:
                    text = item["msg"].removeprefix("Value error, ")
                    lines.append(f"  {name}: {text}")
            raise SettingsError("wrong settings in the environment:\n" + "\n".join(lines)) from None


class RetentionSettings(EnvironmentSettings):
    """How long things are kept: said once, for the writer, ``tbg migrate`` and the batch side."""

    retention_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="how long raw shares and events are kept; older shares are refused",
    )
    leaderboard_days: int = Field(
        default=35, ge=8, description="days until a week's leaderboard set expires"
    )
