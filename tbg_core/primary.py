"""Which server takes writes: a Redis, the primary that Sentinel names, or a node of a cluster.

REDIS_URL may name several servers, separated by commas: they are asked in turn. A program that loses
the primary asks again; so no failover needs a proxy.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

import redis
import redis.asyncio as redis_async
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.sentinel import Sentinel

SENTINEL: Final = "+sentinel"  # redis+sentinel://user:password@sentinel1,sentinel2/name/0
# What a server answers that does not take the writes of these keys, or not now.
ELSEWHERE: Final = (ReadOnlyError, AskError, TryAgainError, ClusterDownError)


class Primary(NamedTuple):
    """A server that takes writes.

    Attributes:
        url: of this one server.
        cluster: whether it is a node of a cluster, which takes the keys of some slots only.
    """

    url: str
    cluster: bool


def find_primary(url: str, key: str, timeout: float = 5.0) -> Primary:
    """The server that takes writes of a key now.

    Args:
        url: as REDIS_URL.
        key: in a cluster, with the hash tag of its cell.
        timeout: seconds that each server may take for each answer.

    Raises:
        RedisError, OSError: no server answers, or none is a primary.
    """
    found = _find(url, timeout)
    if not found.cluster or "{" not in key:
        return found  # of a cluster any node, which is then refused
    try:
        with _cluster(found.url, timeout) as client:
            node = client.get_node_from_key(key)
    except RedisClusterException as error:
        raise redis.ConnectionError(f"the cluster is not whole: {error}") from error
    if node is None:
        raise ClusterDownError("CLUSTERDOWN no node has the slot")
    return Primary(_at(urlsplit(found.url), str(node.host), int(node.port)), cluster=True)


def connect_redis(url: str, timeout: float = 10.0, **options: Any) -> "redis.Redis":
    """A client for keys of the whole pool and of every cell, wherever a cluster has them.

    Raises:
        RedisError, OSError: no server answers, or none is a primary.
    """
    options = {"socket_timeout": timeout, **options}
    found = _find(url, timeout)
    if not found.cluster:
        return redis.Redis.from_url(found.url, **options)
    options.pop("retry", None)  # a cluster's client asks other nodes instead
    try:
        return cast("redis.Redis", _cluster(found.url, **options))
    except RedisClusterException as error:
        raise redis.ConnectionError(f"the cluster is not whole: {error}") from error


async def connect_redis_async(url: str, seconds: float = 10.0) -> Any:
    """As :func:`connect_redis`, with a client of :mod:`redis.asyncio`."""
    found = await asyncio.to_thread(_find, url, seconds)
    kind = redis_async.RedisCluster if found.cluster else redis_async.Redis
    return kind.from_url(found.url, socket_timeout=seconds)


def _cluster(url: str, socket_timeout: float, **options: Any) -> Any:
    return redis.RedisCluster.from_url(
        url, socket_timeout=socket_timeout, socket_connect_timeout=socket_timeout, **options
    )


def _find(url: str, timeout: float) -> Primary:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Primary(url, cluster=False)
    if parts.scheme.endswith(SENTINEL):
        service, _, database = parts.path.strip("/").partition("/")
        sentinel = Sentinel(list(_hosts(parts, 26379)), socket_timeout=timeout)
        host, port = sentinel.discover_master(service)
        scheme = parts.scheme.removesuffix(SENTINEL)
        return _ask(_at(parts._replace(scheme=scheme, path=f"/{database}"), host, port), timeout)
    *others, last = _hosts(parts, 6379)
    for host, port in others:
        try:
            return _ask(_at(parts, host, port), timeout)
        except (RedisError, OSError):
            continue  # the last one's error is shown
    return _ask(_at(parts, *last) if others else url, timeout, alone=not others)


def _ask(url: str, timeout: float, *, alone: bool = False) -> Primary:
    with redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=None
    ) as client:
        try:
            said: Any = client.execute_command("HELLO")
        except ResponseError:
            return Primary(url, cluster=False)  # a proxy, or a right is missing
    if isinstance(said, list):
        said = dict(zip(said[::2], said[1::2], strict=True))
    known = {_text(name): _text(value) for name, value in said.items()}
    cluster = known.get("mode") == "cluster"
    # One that stands alone is judged by who uses it.
    if known.get("role") in ("slave", "replica") and not (cluster or alone):
        raise ReadOnlyError(f"READONLY {urlsplit(url).netloc.rpartition('@')[2]} is a replica")
    return Primary(url, cluster=cluster)


def _hosts(parts: SplitResult, port: int) -> Iterator[tuple[str, int]]:
    for place in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{place}")
        yield one.hostname or "localhost", one.port or port


def _at(parts: SplitResult, host: str, port: int) -> str:
    user, at, _ = parts.netloc.rpartition("@")
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=f"{user}{at}{shown}:{port}").geturl()


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
