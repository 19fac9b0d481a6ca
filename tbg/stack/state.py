"""The state folder: everything that a stack keeps, and who may use it now.

``.tbg/`` holds the data of the servers and engines, the logs, the secrets (made at
the first start, readable by the owner alone) and ``stack.json``, which says where
the stack that runs, or ran last, can be reached.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import click

from tbg.stack.passwords import Secrets
from tbg_core.files import write_private
from tbg_core.settings import SUN_PATH_MAX

DEFAULT_STATE: Final = Path(".tbg")
# supervisord binds its socket under a temporary name that is up to 12 bytes longer.
LONGEST_SOCKET: Final = "supervisor.sock.1234567890"
# Characters of a path that the configuration format of supervisord cannot hold.
FORBIDDEN: Final = frozenset("\"'\n\r;#")


@dataclass(frozen=True)
class Stack:
    """Where a stack can be reached; the URLs hold their passwords."""

    started: str
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    socket_path: str
    receiver_metrics_port: int
    writer_metrics_port: int
    rpc: dict[str, str] = field(default_factory=dict, repr=False)  # BITCOIN_RPC_*
    stratum_url: str | None = None
    dagster_url: str | None = None
    api_url: str | None = None
    archive_url: str | None = field(default=None, repr=False)
    alerts_file: str | None = None
    dagster_database_url: str | None = field(default=None, repr=False)
    resting: tuple[str, ...] = ()  # programs of a light stack that work around the full hour
    programs: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """The settings of our commands that reach this stack."""
        found = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SOCKET_PATH": self.socket_path,
            "RECEIVER_METRICS_PORT": str(self.receiver_metrics_port),
            "WRITER_METRICS_PORT": str(self.writer_metrics_port),
        }
        found |= {name: value for name, value in self.rpc.items() if value}
        known = {
            "STRATUM_URL": self.stratum_url,
            "DAGSTER_URL": self.dagster_url,
            "API_URL": self.api_url,
            "ARCHIVE_URL": self.archive_url,
            "ALERTS_FILE": self.alerts_file,
        }
        return found | {name: value for name, value in known.items() if value is not None}


class State:
    """One state folder.

    Raises:
        click.ClickException: when the path cannot be one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        if FORBIDDEN & set(str(self.path)):
            raise click.ClickException(
                f"the state folder {self.path} may not have quotes, ; or # in its path: "
                "choose another with --state"
            )

    @property
    def never_started(self) -> str:
        """What commands say when there is no stack to ask; they add what else would do."""
        return f"no stack was ever started in {self.path}: run tbg up"

    @property
    def option(self) -> str:
        """What another command needs to find this folder: ' --state ...', or nothing."""
        return "" if self.path == DEFAULT_STATE.resolve() else f" --state {self.path}"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log_of(self, program: str) -> Path:
        """The log of one program."""
        return self.logs / f"{program}.log"

    @property
    def _stack_file(self) -> Path:
        return self.path / "stack.json"

    @property
    def _lock_file(self) -> Path:
        return self.path / "lock"

    def make(self) -> None:
        """Makes the folder, closed to others, if it is missing."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise click.ClickException(
                f"the state folder {self.path} cannot be made: {error}"
            ) from error

    @property
    def runtime(self) -> Path:
        """The folder for sockets, whose paths must be short."""
        beside = self.path / "run"
        if len(os.fsencode(beside / LONGEST_SOCKET)) <= SUN_PATH_MAX:
            return beside
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        base = Path(tempfile.gettempdir())
        if len(os.fsencode(base / f"tbg-{name}" / LONGEST_SOCKET)) > SUN_PATH_MAX:
            base = Path("/tmp")  # noqa: S108  macOS: $TMPDIR may be long; made safely below
        return base / f"tbg-{name}"

    def make_runtime(self) -> None:
        """Makes the folder for sockets.

        Raises:
            click.ClickException: when another user made one of that name in the shared
                temporary folder.
        """
        folder = self.runtime
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise click.ClickException(f"{folder} belongs to another user: remove it")
        folder.chmod(0o700)

    def secrets(self) -> Secrets:
        """Returns the passwords; makes and keeps those that are missing."""
        path = self.path / "secrets.json"
        known: dict[str, str] = _read_json(path) or {}
        secrets = Secrets(**{f.name: known[f.name] for f in fields(Secrets) if f.name in known})
        if asdict(secrets) != known:
            write_private(path, json.dumps(asdict(secrets), indent=2))
        return secrets

    def write_stack(self, stack: Stack) -> None:
        write_private(self._stack_file, json.dumps(asdict(stack), indent=2))

    def read_stack(self) -> Stack | None:
        """Returns what the last start wrote, or None before the first start."""
        found = _read_json(self._stack_file)
        if found is None:
            return None
        # Another release may have written it: unknown fields are left out.
        known = {entry.name: found[entry.name] for entry in fields(Stack) if entry.name in found}
        lists = {name: tuple(known.get(name, ())) for name in ("programs", "resting")}
        return Stack(**{**known, **lists})

    @contextlib.contextmanager
    def hold(self) -> Iterator[Self]:
        """Holds the folder for one stack.

        Raises:
            click.ClickException: when another stack holds it, with its process.
        """
        self.make()
        with open(os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            # A tbg status that looks right now holds the lock for a moment.
            for attempt in range(5):
                try:
                    # Released by the kernel with the process, however that ends.
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if attempt < 4:
                        time.sleep(0.05)
            else:
                raise click.ClickException(
                    f"a stack is running in {self.path} already ({_holder(file.read())}): "
                    "stop it by Ctrl-C there or by tbg down, or choose another --state"
                )
            file.truncate()
            now = datetime.now(UTC).isoformat(timespec="seconds")
            json.dump({"pid": os.getpid(), "since": now}, file)
            file.flush()
            try:
                yield self
            finally:
                file.seek(0)
                file.truncate()

    def holder(self) -> int | None:
        """Returns the process that holds the folder, or None if no process does."""
        try:
            file = self._lock_file.open("r")
        except FileNotFoundError:
            return None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(ValueError, KeyError):
                    return int(json.loads(file.read())["pid"])
                return 0
            return None


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"process {found['pid']}, since {found['since']}"
    except (ValueError, KeyError):
        return "it is starting or stopping"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise click.ClickException(f"{path} is damaged ({error}): remove it") from error


def state_option(function: Any) -> Any:
    """The option that names the state folder, the same for every command."""
    return click.option(
        "--state",
        "state_path",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_STATE,
        show_default=True,
        envvar="TBG_STATE",
        show_envvar=True,
        is_eager=True,  # options of :class:`tbg.options.OfStack` look into it
        help="Folder that keeps the stack's data, logs and secrets.",
    )(function)
