"""What the Dockerfile runs, run here on a stand-in for upstream's tree."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ckpool.standin import mine, stand_in
from tests.ckpool.test_papers import CKPOOL, CONFIGS, DOCKERFILE, healthy, instructions
from tests.processes import LIMIT, Process, running


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A woven tree that builds with the autotools."""
    for tool in ("autoreconf", "automake", "spatch", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: sudo make -C ckpool tools installs it")
    tree = tmp_path / "src"
    stand_in(tree)
    subprocess.run([CKPOOL / "weave", tree], check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
    return tree


def instruction(part: str) -> str:
    """The one RUN instruction that has that part."""
    (found,) = (line for line in instructions() if line.startswith("RUN ") and part in line)
    return found.removeprefix("RUN ")


def build(tree: Path, command: str) -> subprocess.CompletedProcess[str]:
    hardening = re.search(r'(?m)^ARG HARDENING="(.*)"$', DOCKERFILE)
    assert hardening
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("/out/", f"{tree.parent}/out/")],
        cwd=tree,
        env={**os.environ, "HARDENING": hardening[1]},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.timeout(600)
def test_stratum_v2_is_left_out_where_its_libraries_are(upstream: Path, tmp_path: Path) -> None:
    command = instruction("./configure")
    run = build(upstream, command)
    assert run.returncode == 0, run.stderr
    assert "HAVE_SV2 1" not in (upstream / "config.h").read_text()
    program = tmp_path / "out/opt/ckpool/bin/ckpool"
    assert subprocess.run([program, "-h"], check=False, timeout=LIMIT).returncode == 0

    # Without the flag it would come in, and the guard ends the build.
    unflagged = command.replace(" --disable-sv2", "")
    assert unflagged != command
    shutil.rmtree(tmp_path / "out")
    run = build(upstream, unflagged)
    assert run.returncode != 0
    assert "#define HAVE_SV2 1" in (upstream / "config.h").read_text()
    assert not program.exists()


@pytest.mark.timeout(600)
def test_the_image_tests_its_configurations(upstream: Path, tmp_path: Path) -> None:
    assert build(upstream, instruction("./configure")).returncode == 0
    home = tmp_path / "out/opt/ckpool"
    shutil.copytree(CKPOOL / "config", home / "config")
    (home / "run").mkdir()
    entrypoint = (CKPOOL / "image" / "entrypoint").read_text()
    (home / "bin/entrypoint").write_text(entrypoint.replace("/opt/ckpool/", f"{home}/"))
    (home / "bin/entrypoint").chmod(0o755)

    def look() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", instruction("-T")],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    run = look()
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("Configuration check of") == len(CONFIGS) == 3
    assert not (home / "run/ckpool.conf").exists()
    # One that names what nobody sets is refused.
    config = json.loads((home / "config/ckpool-signet.conf").read_text())
    config["btcsig"] = "@NOBODY_SETS_IT@"
    (home / "config/ckpool-signet.conf").write_text(json.dumps(config))
    run = look()
    assert run.returncode != 0
    assert "NOBODY_SETS_IT" in run.stderr


def understood(program: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CKPOOL / "image" / "understood", program, *paths],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_what_the_program_understands_is_compared_with_the_configuration(
    upstream: Path, tmp_path: Path
) -> None:
    assert build(upstream, instruction("./configure")).returncode == 0
    program = tmp_path / "out/opt/ckpool/bin/ckpool"
    run = understood(program, *CONFIGS)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("settings compared") == len(CONFIGS) == 3
    # The program cannot read this one, says so in its log, and its own test passes.
    one_line = tmp_path / "one-line.conf"
    one_line.write_text(json.dumps(json.loads(CONFIGS[0].read_text())))
    assert (
        subprocess.run([program, "-T", "-c", one_line], check=False, timeout=LIMIT).returncode == 0
    )
    run = understood(program, one_line)
    assert run.returncode == 1
    assert "mindiff is 1, and ckpool understands nothing" in run.stdout
    assert "serverurl[0] is 0.0.0.0:3333, and ckpool understands nothing" in run.stdout
    # One that is no JSON at all ends the build as well.
    (tmp_path / "broken.conf").write_text('{ "mindiff": 1')
    assert understood(program, tmp_path / "broken.conf").returncode != 0
    # An upstream without the test is not asked.
    older = tmp_path / "older"
    older.write_text("#!/bin/sh\necho '-B | --btcsolo'\n")
    older.chmod(0o755)
    assert "has no -T" in understood(older, *CONFIGS).stdout


def listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path))
    receiver.settimeout(60)
    return receiver


def until(
    receiver: socket.socket, wanted: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Everything that comes, up to what is wanted."""
    came = []
    while True:
        came.append(json.loads(receiver.recv(65536)))
        if wanted(came[-1]):
            return came


def wait_for_port(port: int) -> None:
    for _ in range(3000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("the pool does not listen")


@pytest.mark.timeout(600)
async def test_the_image_runs_ends_and_starts_again(upstream: Path, tmp_path: Path) -> None:
    """What the image starts, without Docker: its entrypoint, health check and configuration."""
    assert build(upstream, instruction("./configure")).returncode == 0
    home = tmp_path / "out/opt/ckpool"
    (home / "run").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = (CKPOOL / "config/ckpool-signet.conf").read_text()
    config = config.replace(":3333", f":{port}").replace("/opt/ckpool/logs", str(tmp_path))
    (home / "signet.conf").write_text(config)
    entrypoint = (CKPOOL / "image" / "entrypoint").read_text()
    (home / "bin/entrypoint").write_text(entrypoint.replace("/opt/ckpool/", f"{home}/"))
    (home / "bin/entrypoint").chmod(0o755)
    environment = {
        "CKPOOL_CONF": str(home / "signet.conf"),
        "BITCOIN_RPC_USER": "user",
        "BITCOIN_RPC_PASSWORD": "password",
        "TBG_EVENTS_SOCKET": str(tmp_path / "events.sock"),
        "STRATUM_PORT": str(port),
    }

    def pool(log: str) -> contextlib.AbstractContextManager[Process]:
        return running([home / "bin/entrypoint"], tmp_path / log, environment)

    with listener(tmp_path / "events.sock") as receiver:
        with pool("first.log") as process:
            wait_for_port(port)
            assert healthy(port)
            assert mine(port, ["6a", "6b"])[1:] == [True, True, True]
            # Who leaves may be told before the last shares: what is rare goes first.
            came = until(receiver, lambda event: event.get("seq") == 8)
            assert Counter(event["event"] for event in came if "seq" in event) == {
                "new_block_network": 1,
                "miner_connected": 1,
                "share_best_diff": 3,
                "share_submitted": 2,
                "miner_disconnected": 1,
            }
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
            last = until(receiver, lambda event: event.get("data", {}).get("state") == "ended")[-1]
            assert last["data"] == {"last_seq": 8, "unsent": 0, "state": "ended"}
        assert (tmp_path / "tbg_best.state").stat().st_size > 0
        with pool("second.log") as process:
            wait_for_port(port)
            assert mine(port, ["6c"])[1:] == [True, True]
            came = until(receiver, lambda event: event.get("seq") == 5)
            bests = [e["data"]["period"] for e in came if e["event"] == "share_best_diff"]
            assert bests == ["session"]  # the week's and the all-time best were kept
            killed = came[-1]
            process.send(signal.SIGKILL)
            await process.ended()
        with pool("third.log") as process:
            reported = until(
                receiver,
                lambda event: (
                    event["event"] == "engine_status"
                    and event["instance"] == killed["instance"]
                    and event["data"]["state"] != "running"
                ),
            )[-1]
            assert reported["data"]["last_seq"] == killed["seq"]
            assert reported["data"]["state"] == "ended"
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
