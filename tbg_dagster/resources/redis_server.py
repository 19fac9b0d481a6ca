"""The Redis (or Valkey) that realtime and batch share."""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import dagster as dg
import redis
from pydantic import Field
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tbg_core.primary import connect_redis


class RedisServer(dg.ConfigurableResource):  # type: ignore[type-arg]  # yields itself
    """Redis 7.2 or Valkey, reached by URL."""

    url: str = Field(description="redis://:password@host:port/0")

    @contextlib.contextmanager
    def connect(self) -> Iterator["redis.Redis"]:
        """A client whose answers are text.

        Raises:
            dagster.Failure: when Redis does not answer or refuses.
        """
        retry = Retry(ExponentialBackoff(cap=1.0, base=0.1), 3)
        try:
            with contextlib.closing(
                connect_redis(
                    self.url, decode_responses=True, socket_connect_timeout=5, retry=retry
                )
            ) as client:
                yield client
        except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
            place = urlsplit(self.url).netloc.rpartition("@")[2]
            raise dg.Failure(
                f"Redis at {place} (REDIS_URL) cannot be reached or refuses: {error}"
            ) from error
