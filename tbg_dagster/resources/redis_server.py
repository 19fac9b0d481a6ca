"""The Redis (or Valkey) that realtime and batch share."""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import dagster as dg
import redis
from pydantic import Field
from redis.backoff import ExponentialBackoff
from redis.retry import Retry


class RedisServer(dg.ConfigurableResource):  # type: ignore[type-arg]  # yields itself
    """Redis 7.2 or Valkey, reached by URL."""

    url: str = Field(description="redis://:password@host:port/0")

    @contextlib.contextmanager
    def connect(self) -> Iterator["redis.Redis"]:
        """A client whose answers are text.

        Raises:
            dagster.Failure: when Redis does not answer or refuses.
        """
        client = redis.Redis.from_url(
            self.url,
            decode_responses=True,
            socket_timeout=10,
            socket_connect_timeout=5,
            retry=Retry(ExponentialBackoff(cap=1.0, base=0.1), 3),
        )
        try:
            with contextlib.closing(client):
                yield client
        except redis.RedisError as error:
            parts = urlsplit(self.url)
            raise dg.Failure(
                f"Redis at {parts.hostname}:{parts.port or 6379} (REDIS_URL) "
                f"cannot be reached or refuses: {error}"
            ) from error
