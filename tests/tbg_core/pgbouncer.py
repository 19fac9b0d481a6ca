"""Debian's PgBouncer before a test's database."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tbg.stack.embedded import free_port
from tests.processes import Process, running

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")


@contextlib.contextmanager
def pgbouncer(url: str, folder: Path, mode: str, pool_size: int = 10) -> Iterator[str]:
    """Runs one in a pool mode, and gives the URL by which it is reached."""
    assert PROGRAM is not None
    parts = urlsplit(url)
    folder.chmod(0o755)
    users = folder / "users.txt"
    users.write_text(f'"{parts.username}" "{parts.password}"\n')
    users.chmod(0o644)
    name = parts.path.lstrip("/")
    port = free_port()
    settings = folder / f"{mode}.ini"
    settings.write_text(
        f"[databases]\n{name} = host={parts.hostname} port={parts.port} dbname={name}"
        f" user={parts.username} password={parts.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {users}\npool_mode = {mode}\n"
        f"default_pool_size = {pool_size}\n"
    )
    log = folder / f"{mode}.log"
    process: Process
    # It refuses to run as root; any other user it keeps.
    with running([PROGRAM, "-u", "nobody", settings], log) as process:
        process.wait_for("process up")
        yield urlunsplit(
            parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}")
        )
