"""What ckpool/ says about itself, and the parts of its image, without Docker."""

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes import LIMIT

CKPOOL = Path(__file__).parent.parent.parent / "ckpool"
README = (CKPOOL / "README.md").read_text()
DOCKERFILE = (CKPOOL / "Dockerfile").read_text()
CONFIGS = sorted((CKPOOL / "config").glob("*.conf*"))


def table_names(heading: str) -> set[str]:
    """The code words in the first column of the tables under a heading."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    return {
        name
        for row in re.findall(r"^\|([^|]*)\|", section, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }


def instructions() -> list[str]:
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def test_the_settings_table_is_what_the_module_reads() -> None:
    sources = "".join(path.read_text() for path in CKPOOL.glob("src/*.c"))
    read = set(re.findall(r'getenv\("(\w+)"\)', sources))
    assert read == table_names("Settings")


def test_every_configuration_key_is_documented_and_every_documented_key_used() -> None:
    used = {key for path in CONFIGS for key in json.loads(path.read_text())}
    assert used == table_names("Configuration")


def test_configurations_hold_no_secret() -> None:
    for path in CONFIGS:
        for node in json.loads(path.read_text())["btcd"]:
            assert re.fullmatch(r"@[A-Z_]+@", node["auth"]), path.name
            assert re.fullmatch(r"@[A-Z_]+@", node["pass"]), path.name


def test_the_signet_configuration_is_what_the_platform_expects() -> None:
    config = json.loads((CKPOOL / "config" / "ckpool-signet.conf").read_text())
    assert config["btcd"][0]["url"] == "bitcoin-signet:38332"
    assert len(config["btcsig"].encode()) <= 38
    wanted = {
        "btcsig": "/TheBitcoinGame-dev/",
        "mindiff": 1,
        "startdiff": 1,
        "version_mask": "1fffe000",
        "nonce1length": 4,
        "nonce2length": 8,
        "update_interval": 30,
        "maxclients": 1000,
        "zmqblock": "tcp://bitcoin-signet:28332",
    }
    assert {key: config[key] for key in wanted} == wanted


def test_the_pinned_commit_is_the_same_everywhere() -> None:
    pinned = re.findall(r"CKPOOL_COMMIT=([0-9a-f]{40})", DOCKERFILE)
    assert len(pinned) == 1
    assert f"Pinned commit: `{pinned[0]}`" in README
    assert pinned[0] in (CKPOOL / "CHANGELOG.md").read_text()


def test_base_images_are_pinned() -> None:
    arguments = dict(re.findall(r"(?m)^ARG (\w+)=(\S+)", DOCKERFILE))
    for line in instructions():
        if line.startswith("FROM "):
            base = line.split()[1]
            base = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match.group(1)], base)
            stage = re.search(rf"(?m)^FROM .* AS {re.escape(base)}$", DOCKERFILE)
            assert base == "scratch" or stage or re.fullmatch(r"\w+:\d+\.\d+[\w.-]*", base), line


def test_everything_that_is_copied_exists_and_is_in_the_context() -> None:
    ignored = (CKPOOL / ".dockerignore").read_text().split()
    for line in instructions():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (CKPOOL / source).exists(), line
                assert source.split("/")[0] not in ignored, line


def test_the_image_runs_as_nobody_special_and_checks_its_health() -> None:
    final = instructions()[[i for i, x in enumerate(instructions()) if x.startswith("FROM")][-1] :]
    assert "USER ckpool" in final
    assert final.index("USER ckpool") < next(
        i for i, line in enumerate(final) if line.startswith("ENTRYPOINT")
    )
    assert any(line.startswith("HEALTHCHECK") for line in final)
    for script in ("entrypoint", "healthcheck", "fetch"):
        assert os.access(CKPOOL / "image" / script, os.X_OK)


def test_the_build_is_portable_and_hardened() -> None:
    code = " ".join(instructions())
    assert "-march" not in code
    assert "yasm" not in code
    for option in ("-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-pie", "relro", "-z,now"):
        assert option in code


def test_every_source_says_its_licence() -> None:
    sources = [
        path
        for path in CKPOOL.rglob("*")
        if path.is_file()
        and "build" not in path.relative_to(CKPOOL).parts
        and "__pycache__" not in path.parts
        and (
            path.suffix in (".c", ".h", ".cocci", ".py")
            or path.name in ("weave", "need", "fetch", "entrypoint", "healthcheck", "Dockerfile")
        )
    ]
    assert len(sources) > 30
    for path in sources:
        assert "SPDX-License-Identifier: GPL-3.0-or-later" in path.read_text(), path
    assert "GNU GENERAL PUBLIC LICENSE" in (CKPOOL / "LICENSE").read_text()


# --- The image's scripts --------------------------------------------------------------


@pytest.fixture
def entrypoint(tmp_path: Path) -> Path:
    """The entrypoint, with a pool that only says how it was started."""
    pool = tmp_path / "ckpool"
    pool.write_text('#!/bin/sh\necho "$@"\n')
    pool.chmod(0o755)
    script = tmp_path / "entrypoint"
    text = (CKPOOL / "image" / "entrypoint").read_text()
    script.write_text(text.replace("/opt/ckpool/bin/ckpool", str(pool)))
    script.chmod(0o755)
    return script


def enter(entrypoint: Path, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [entrypoint, "-L"],
        env={
            "PATH": os.environ["PATH"],
            "CKPOOL_CONF": str(CKPOOL / "config" / "ckpool-signet.conf"),
            "CKPOOL_RUN_DIR": str(folder),
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_secrets_are_filled_in_whatever_they_hold(entrypoint: Path, tmp_path: Path) -> None:
    awkward = "a\"b\\c&d|e$f@g/h'i"
    (tmp_path / "password").write_text(awkward)
    run = enter(
        entrypoint,
        tmp_path,
        BITCOIN_RPC_USER=awkward,
        BITCOIN_RPC_PASSWORD_FILE=str(tmp_path / "password"),
    )
    assert run.returncode == 0, run.stderr
    filled = tmp_path / "ckpool.conf"
    assert run.stdout.split() == ["-B", "-q", "-c", str(filled), "-s", str(tmp_path), "-L"]
    node = json.loads(filled.read_text())["btcd"][0]
    assert (node["auth"], node["pass"]) == (awkward, awkward)
    assert filled.stat().st_mode & 0o077 == 0


def test_a_missing_secret_is_named(entrypoint: Path, tmp_path: Path) -> None:
    run = enter(entrypoint, tmp_path, BITCOIN_RPC_USER="user")
    assert run.returncode == 1
    assert "BITCOIN_RPC_PASSWORD" in run.stderr
    assert run.stdout == ""


def test_a_pid_file_left_behind_does_not_stop_the_next_start(
    entrypoint: Path, tmp_path: Path
) -> None:
    """`docker run --restart`: the folder stays, and the new process has the old number."""
    run = tmp_path / "run"
    run.mkdir()
    pool = tmp_path / "ckpool"
    # As upstream does: another that lives is left alone; only a clean end removes the file.
    pool.write_text(
        "#!/bin/sh\n"
        f'if [ -e {run}/main.pid ] && kill -0 "$(cat {run}/main.pid)"; then exit 3; fi\n'
        f"echo {os.getpid()} > {run}/main.pid\n"
        "kill -9 $$\n"
    )
    for _ in range(3):
        ended = enter(
            entrypoint, run, **dict.fromkeys(("BITCOIN_RPC_USER", "BITCOIN_RPC_PASSWORD"), "x")
        )
        assert ended.returncode == -9, ended.stderr
        assert (run / "main.pid").exists()


@pytest.fixture
def pool_that_answers() -> Iterator[tuple[int, list[bytes]]]:
    """A Stratum port whose next answer is the first of the list."""
    listener = socket.create_server(("127.0.0.1", 0))
    answers: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(answers.pop(0))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], answers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def healthy(port: int) -> bool:
    return (
        subprocess.run(
            [CKPOOL / "image" / "healthcheck"],
            env={"PATH": os.environ["PATH"], "STRATUM_PORT": str(port)},
            capture_output=True,
            check=False,
            timeout=30,
        ).returncode
        == 0
    )


def test_a_pool_is_healthy_when_it_gives_work(
    pool_that_answers: tuple[int, list[bytes]],
) -> None:
    port, answers = pool_that_answers
    answers.append(b'{"result":[[["mining.notify","1"]],"00",8],"id":1,"error":null}\n')
    assert healthy(port)
    answers.append(b'{"result":null,"id":1,"error":"Initialising"}\n')
    assert not healthy(port)
    answers.append(b"")
    assert not healthy(port)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_other_lines_may_overtake_the_answer(
    pool_that_answers: tuple[int, list[bytes]], before: int
) -> None:
    port, answers = pool_that_answers
    other = b'{"id":null,"method":"mining.set_difficulty","params":[1]}\n' * before
    answers.append(other + b'{"id": 1, "result": [[["mining.notify", "1"]], "00", 8]}\n')
    assert healthy(port)
    answers.append(other + b'{"id": 1, "result": null, "error": "Initialising"}\n')
    assert not healthy(port)
    answers.append(other)
    assert not healthy(port)


def test_a_pool_that_does_not_listen_is_not_healthy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        assert not healthy(taken.getsockname()[1])


def test_fetching_tries_every_mirror_and_names_those_that_failed(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    mirror = tmp_path / "mirror"
    subprocess.run([*git, "init", "-q", mirror], check=True, timeout=LIMIT)
    (mirror / "README").write_text("here")
    subprocess.run([*git, "-C", mirror, "add", "."], check=True, timeout=LIMIT)
    subprocess.run([*git, "-C", mirror, "commit", "-q", "-m", "one"], check=True, timeout=LIMIT)
    commit = subprocess.check_output(["git", "-C", mirror, "rev-parse", "HEAD"], text=True).strip()

    def fetch(wanted: str, *mirrors: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CKPOOL / "image" / "fetch", wanted, tmp_path / "got", *mirrors],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    run = fetch(commit, tmp_path / "nowhere", mirror)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "got" / "README").read_text() == "here"
    run = fetch("0" * 40, tmp_path / "nowhere", mirror)
    assert run.returncode == 1
    assert str(tmp_path / "nowhere") in run.stderr
    assert str(mirror) in run.stderr
    assert fetch("main", mirror).returncode == 2

    # One that accepts and never answers does not keep the next one waiting.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"git://127.0.0.1:{silent.getsockname()[1]}/ckpool.git"
        run = subprocess.run(
            [CKPOOL / "image" / "fetch", commit, tmp_path / "got", hanging, mirror],
            env={**os.environ, "FETCH_SECONDS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        assert f"{commit} from {mirror}" in run.stdout
