"""tbg up runs a whole stack, and lets nothing of it get lost or stay behind."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
import requests

from tbg.migrate import sql_folder
from tbg.stack.node import Node
from tbg.stack.ports import free_port
from tbg.stack.state import State
from tbg.stack.supervisor import Supervisor, leftovers, stop_leftovers
from tbg_core.disk import disk_trouble
from tests import processes
from tests.processes import LIMIT, PYTHON, wait_until
from tests.tbg.command import HIDDEN, Up, environment, tbg

DATA_SIDE = ["--no-node", "--no-dagster", "--free-ports", "--every", "0.5"]


@pytest.fixture
def state(server_folder: Path) -> Iterator[Path]:
    folder = server_folder / "state"
    yield folder
    stop_leftovers(State(folder))
    shutil.rmtree(State(folder).runtime, ignore_errors=True)


@pytest.fixture
def up(state: Path) -> Iterator[Callable[..., Up]]:
    """Starts tbg up on the state folder; whatever still runs in the end is killed."""
    started: list[Up] = []

    def start(*arguments: str, **more: str) -> Up:
        log = state.parent / f"up-{len(started)}.log"
        one = Up(state, log, arguments or DATA_SIDE, **more)
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.kill()


@pytest.fixture(scope="module")
def shared(_servers_folder: Path) -> Iterator[Up]:
    """One stack for all tests that leave it running; in this module, and no other."""
    folder = _servers_folder / "shared"
    folder.mkdir(mode=0o755)
    one = Up(folder / "state", folder / "up.log", DATA_SIDE)
    try:
        yield one.start().wait_until_up()
        assert one.end() == 0, one.output
        assert leftovers(State(one.state)) == []
    finally:
        one.kill()


def reached(state: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(tbg("env", "--state", str(state), "--json").stdout)
    return found


def tbg_status(state: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tbg("status", "--state", str(state), "--json").stdout)
    return found


def program_pid(state: Path, name: str) -> int:
    pid: int = tbg_status(state)["programs"][name]["pid"]
    return pid


def graphql(url: str, query: str, **variables: Any) -> dict[str, Any]:
    answer = requests.post(
        f"{url}/graphql", json={"query": query, "variables": variables}, timeout=LIMIT
    )
    found: dict[str, Any] = answer.json()["data"]
    return found


def launch_job(url: str, name: str) -> str:
    """Launches the job whose name has ``name`` in it, and returns the run's id."""
    (repository,) = graphql(
        url,
        "{repositoriesOrError{... on RepositoryConnection{nodes{name location{name} jobs{name}}}}}",
    )["repositoriesOrError"]["nodes"]
    (job,) = (job["name"] for job in repository["jobs"] if name in job["name"])
    launched = graphql(
        url,
        "mutation($p: ExecutionParams!){launchRun(executionParams: $p){__typename "
        "... on LaunchRunSuccess{run{runId}} ... on PythonError{message}}}",
        p={
            "selector": {
                "repositoryLocationName": repository["location"]["name"],
                "repositoryName": repository["name"],
                "jobName": job,
            }
        },
    )["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run: str = launched["run"]["runId"]
    return run


def run_status(dagster: psycopg.Connection[Any], run: str) -> str:
    row = dagster.execute("select status from runs where run_id = %s", [run]).fetchone()
    assert row is not None
    return str(row[0])


def send_share(socket_path: str, seq: int) -> None:
    event = json.loads((sql_folder().parent / "tests/events/share_submitted.json").read_text())
    event |= {"timestamp": time.time_ns() // 1000, "instance": "test/1", "seq": seq}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(json.dumps(event).encode(), socket_path)


def stored_shares(database_url: str) -> list[int]:
    with psycopg.connect(database_url) as connection:
        return [row[0] for row in connection.execute("select seq from shares order by seq")]


def is_stored(database_url: str, seq: int) -> bool:
    with contextlib.suppress(psycopg.OperationalError):  # it recovers
        return seq in stored_shares(database_url)
    return False


def wait_for_shares(database_url: str, expected: list[int]) -> None:
    wait_until(lambda: stored_shares(database_url) == expected, f"shares {expected}")


def test_a_share_is_kept_over_ctrl_c_and_the_next_start_from_a_shell_with_its_urls_goes_on(
    up: Callable[..., Up], state: Path
) -> None:
    first = up().wait_until_up()
    urls = reached(state)
    send_share(urls["SOCKET_PATH"], 1)
    wait_for_shares(urls["DATABASE_URL"], [1])
    first.wait_for("1 accepted")
    assert first.end(signal.SIGINT) == 0, first.output
    assert leftovers(State(state)) == []
    stopped = [line.split()[-1] for line in first.lines if " stopping " in line]
    assert stopped == ["serve", "receiver", "writer", "valkey", "postgres"]

    # From a shell after eval "$(tbg env)": the URLs name our own servers, which do not run now.
    second = up(**reached(state)).wait_until_up()
    assert "starting postgres" in second.output
    urls = reached(state)
    send_share(urls["SOCKET_PATH"], 2)
    wait_for_shares(urls["DATABASE_URL"], [1, 2])
    with redis.Redis.from_url(urls["REDIS_URL"]) as client:
        assert client.xlen("mining:share_submitted") == 2
    assert second.end(signal.SIGTERM) == 0, second.output


def test_mined_shares_are_shown(up: Callable[..., Up], state: Path) -> None:
    running = up("--no-dagster", "--free-ports", "--every", "0.5").wait_until_up()
    running.wait_for(re.compile(r"[1-9]\d* accepted .* height \d"))
    urls = reached(state)
    assert urls["STRATUM_URL"] in running.output
    assert running.end() == 0, running.output
    stopped = [line.split()[-1] for line in running.lines if " stopping " in line]
    assert stopped == [
        "serve",
        "miner",
        "pool",
        "node",
        "receiver",
        "writer",
        "valkey",
        "postgres",
    ]


def test_a_node_of_the_users_own_is_mined_on_instead_of_ours(
    up: Callable[..., Up], state: Path, server_folder: Path
) -> None:
    """Our regtest node, started apart, stands in for bitcoind."""
    cookie = server_folder / "chain" / ".cookie"
    port = free_port()
    command = [PYTHON, "-m", "tbg.cli", "devnet", "node", "--port", str(port)]
    command += ["--datadir", str(cookie.parent)]
    with processes.running(command, server_folder / "node.log", HIDDEN) as node:
        node.wait_for("node ready")
        url = f"http://127.0.0.1:{port}"
        assert Node(url, cookie=cookie).answers()
        arguments = ["--no-dagster", "--free-ports", "--every", "0.5"]
        arguments += ["--node-url", url, "--node-cookie", str(cookie)]
        stack = up(*arguments).wait_until_up()
        stack.wait_for(re.compile(r"[1-9]\d* accepted .* height \d"))
        assert "starting node" not in stack.output
        urls = reached(state)
        assert urls["BITCOIN_RPC_URL"] == url
        assert urls["BITCOIN_RPC_COOKIE_FILE"] == str(cookie)
        assert stack.end() == 0, stack.output
        assert node.returncode is None


def test_no_password_is_printed_logged_or_on_a_command_line(
    up: Callable[..., Up], state: Path
) -> None:
    # With Dagster, whose logs and command lines count too.
    arguments = [word for word in DATA_SIDE if word != "--no-dagster"]
    running = up("--verbose", *arguments).wait_until_up()
    secrets = json.loads((state / "secrets.json").read_text())
    assert len(set(secrets.values())) == 6
    status, doctor = tbg("status", "--state", str(state)), tbg("doctor", "--state", str(state))
    shown = running.output + status.stdout + status.stderr + doctor.stdout + doctor.stderr
    for process in leftovers(State(state)):
        shown += " ".join(process.cmdline())
    assert running.end() == 0
    for log in (state / "logs").iterdir():
        shown += log.read_text()
    for name, secret in secrets.items():
        assert secret not in shown, name
    for file in ("secrets.json", "stack.json", "supervisord.conf"):
        assert (state / file).stat().st_mode & 0o077 == 0, file


def test_doctor_looks_at_the_stack_that_runs(shared: Up) -> None:
    done = tbg("doctor", "--state", str(shared.state), "--json")
    found = {one["about"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["ports"]["text"] == "the stack that runs has them"
    for name in ("programs", "receiver", "writer", "database", "schema", "Redis", "books"):
        assert found[name]["state"] == "good", found
    assert "listening on" in found["receiver"]["text"]
    assert "committing" in found["writer"]["text"]
    assert "Traceback" not in done.stderr


def test_a_second_start_at_the_same_time_is_refused(shared: Up) -> None:
    second = tbg("up", "--state", str(shared.state), *DATA_SIDE)
    assert second.returncode == 1
    assert f"running in {shared.state} already (process {shared.pid}, since" in second.stderr
    assert shared.returncode is None


def test_a_port_in_use_is_named_with_the_option_that_changes_it(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = tbg(
            "up", "--state", str(state), "--no-node", "--no-dagster", "--valkey-port", str(port)
        )
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1, for valkey (streams)" in done.stderr
    assert "choose another with --valkey-port" in done.stderr
    assert leftovers(State(state)) == []


def test_dagster_works_with_its_database_named_in_the_usual_form(
    up: Callable[..., Up], state: Path, database_url: str, redis_url: str, empty_database_url: str
) -> None:
    """One code server serves it, and a run comes through."""
    arguments = [word for word in DATA_SIDE if word != "--no-dagster"]
    named = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "TBG_FIRST_WEEK": ""}
    running = up(*arguments, DAGSTER_PG_URL=empty_database_url, **named).wait_until_up()
    run = launch_job(reached(state)["DAGSTER_URL"], "liveness")
    with psycopg.connect(empty_database_url, autocommit=True) as dagster:
        ends = ("SUCCESS", "FAILURE", "CANCELED")
        wait_until(lambda: run_status(dagster, run) in ends, "the run ends")
        assert run_status(dagster, run) == "SUCCESS"
        servers = [
            process for process in leftovers(State(state)) if "grpc" in process.cmdline()[1:5]
        ]
        assert len(servers) == 1
        assert tbg_status(state)["dagster"] == {"problems": []}
        assert "Dagster is sick" not in running.output
        # Older shares come. While the code server ends, nothing takes a run out of the queue.
        seen = len(running.output)
        with psycopg.connect(database_url, autocommit=True) as database:
            database.execute(
                "insert into late_share_hours (hour, shares) "
                "values (date_trunc('hour', now()) - interval '15 days', 1)"
            )
        back = re.compile("code-server is ready.*daemon is ready", re.DOTALL)
        wait_until(lambda: back.search(running.output[seen:]), "the daemon is back")
        said = re.findall(r"stopping [\w-]+|[\w-]+ is ready", running.output[seen:])
        # As often as a run left the queue before the daemon had stopped, it was let end first.
        while said[:2] == ["stopping daemon", "daemon is ready"]:
            del said[:2]
        assert said == [
            "stopping daemon", "stopping code-server", "code-server is ready", "daemon is ready"
        ]  # fmt: skip
        run = launch_job(reached(state)["DAGSTER_URL"], "liveness")
        wait_until(lambda: run_status(dagster, run) in ends, "the run ends")
        assert dagster.execute("select count(*) from runs where status = 'FAILURE'").fetchone() == (
            0,
        )
        dagster.execute("update runs set status = 'FAILURE' where run_id = %s", [run])
    (problem,) = tbg_status(state)["dagster"]["problems"]
    assert "liveness" in problem
    assert "failed" in problem
    running.wait_for(re.compile("Dagster is sick: .*liveness.* failed"))
    assert running.end() == 0


@pytest.mark.parametrize(("name", "seq"), [("writer", 1), ("postgres", 2)])
def test_a_program_that_dies_is_named_and_started_again(shared: Up, name: str, seq: int) -> None:
    pid = program_pid(shared.state, name)
    os.kill(pid, signal.SIGKILL)
    log = shared.state / "logs" / f"{name}.log"
    shared.wait_for(f"{name} ({pid}) died: terminated by SIGKILL; log: {log}")
    shared.wait_for(f"{name} runs again")
    urls = reached(shared.state)
    send_share(urls["SOCKET_PATH"], seq)

    wait_until(lambda: is_stored(urls["DATABASE_URL"], seq), f"share {seq} is stored")


def test_a_database_that_cannot_start_at_once_after_its_death_is_told_with_the_first_reason(
    shared: Up,
) -> None:
    """PostgreSQL does not start while a process of the killed one still runs."""
    supervisor = Supervisor(State(shared.state))
    # Until then it would pause before the next start, and the first death would be seen alone.
    wait_until(
        lambda: supervisor.processes()["postgres"].state == "RUNNING", "it is past its start"
    )
    pid = program_pid(shared.state, "postgres")
    one_of_its_own = psutil.Process(pid).children()[0]
    one_of_its_own.suspend()
    try:
        os.kill(pid, signal.SIGKILL)
        shared.wait_for(f"postgres ({pid}) died: terminated by SIGKILL")
        log = shared.state / "logs" / "postgres.log"
        wait_until(lambda: "pre-existing shared memory block" in log.read_text(), "it fails")
    finally:
        one_of_its_own.resume()
    urls = reached(shared.state)
    send_share(urls["SOCKET_PATH"], 3)
    wait_until(lambda: is_stored(urls["DATABASE_URL"], 3), "share 3 is stored")


def test_what_a_killed_tbg_up_left_is_stopped_by_tbg_down(
    up: Callable[..., Up], state: Path
) -> None:
    running = up().wait_until_up()
    running.end(signal.SIGKILL)
    assert {"postgres", "valkey"} <= {
        one.name()[:8].split("-")[0] for one in leftovers(State(state))
    }
    down = tbg("down", "--state", str(state))
    assert down.returncode == 0
    assert "stopped what an earlier stack left running" in down.stdout
    assert leftovers(State(state)) == []
    again = tbg("down", "--state", str(state))
    assert "nothing was running" in again.stdout
    status = tbg("status", "--state", str(state))
    assert status.returncode == 1
    assert f"the stack of {state} is stopped: run tbg up" in status.stderr


def test_what_a_killed_supervisor_left_is_stopped_by_the_next_start(
    up: Callable[..., Up], state: Path
) -> None:
    running = up().wait_until_up()
    urls = reached(state)
    send_share(urls["SOCKET_PATH"], 1)
    wait_for_shares(urls["DATABASE_URL"], [1])
    supervisor = psutil.Process(running.pid).children()[0]
    running.end(signal.SIGKILL)
    supervisor.kill()
    second = up().wait_for("stopped what an earlier stack left running").wait_until_up()
    assert stored_shares(reached(state)["DATABASE_URL"]) == [1]
    assert second.end() == 0


def test_after_a_power_cut_the_append_only_file_is_repaired_and_the_stack_starts(
    up: Callable[..., Up], state: Path
) -> None:
    running = up().wait_until_up()
    urls = reached(state)
    send_share(urls["SOCKET_PATH"], 1)
    wait_for_shares(urls["DATABASE_URL"], [1])
    running.end(signal.SIGKILL)
    # Again and again: the supervisor may start one again before it is killed itself.
    while left := leftovers(State(state)):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=LIMIT)
    (file,) = (state / "valkey" / "appendonlydir").glob("*.incr.aof")
    with file.open("ab") as end:
        end.write(bytes(4096))
    second = up().wait_for("cut 4,096 bytes, 4,096 of them zeros").wait_until_up()
    urls = reached(state)
    send_share(urls["SOCKET_PATH"], 2)
    wait_for_shares(urls["DATABASE_URL"], [1, 2])
    assert second.end() == 0


def test_without_its_supervisor_the_stack_ends_and_says_so(
    up: Callable[..., Up], state: Path
) -> None:
    running = up().wait_until_up()
    psutil.Process(running.pid).children()[0].kill()
    running.wait_for("supervisord no longer answers")
    assert running.wait() == 1
    assert leftovers(State(state)) == []


def test_ctrl_c_while_it_starts_ends_what_was_started(up: Callable[..., Up], state: Path) -> None:
    running = up().wait_for("starting valkey")
    assert running.end(signal.SIGINT) == 0, running.output
    assert leftovers(State(state)) == []


def test_a_stack_whose_output_nobody_reads_any_more_ends(state: Path, server_folder: Path) -> None:
    command = [PYTHON, "-m", "tbg.cli", "up", "--state", state, *DATA_SIDE]
    # The shell waits for both, and head leaves after the first line.
    shell = ["sh", "-c", '"$@" 2>&1 | head -n 1', "sh", *command]
    with processes.running(shell, server_folder / "head.log", HIDDEN) as one:
        one.wait()
        assert len(one.output.splitlines()) == 1
    assert leftovers(State(state)) == []


def test_tbg_down_ends_a_running_tbg_up_in_order(up: Callable[..., Up], state: Path) -> None:
    running = up().wait_until_up()
    down = tbg("down", "--state", str(state))
    assert down.returncode == 0, down.stderr
    assert running.wait() == 0
    assert "stopped; the data stays" in running.output


def test_servers_elsewhere_are_used_and_none_is_started(
    up: Callable[..., Up], state: Path, database_url: str, redis_url: str
) -> None:
    running = up(DATABASE_URL=database_url, REDIS_URL=redis_url).wait_until_up()
    urls = reached(state)
    assert urls["DATABASE_URL"] == database_url
    send_share(urls["SOCKET_PATH"], 1)
    wait_for_shares(database_url, [1])
    assert not (state / "postgres").exists()
    assert not (state / "valkey").exists()
    assert running.end() == 0


def test_a_program_that_cannot_start_ends_everything_and_shows_its_log(state: Path) -> None:
    (state / "postgres" / "data").mkdir(parents=True)
    (state / "postgres" / "data" / "PG_VERSION").write_text("9.6\n")
    done = tbg("up", "--state", str(state), *DATA_SIDE)
    assert done.returncode == 1
    assert "was made by PostgreSQL 9.6" in done.stderr
    assert leftovers(State(state)) == []


def test_the_environment_can_be_taken_over_by_a_shell(shared: Up) -> None:
    exports = tbg("env", "--state", str(shared.state)).stdout
    done = subprocess.run(
        ["sh", "-c", exports + '\nprintf %s "$DATABASE_URL"'],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    with psycopg.connect(done.stdout) as connection:
        assert connection.execute("select current_user").fetchone() == ("tbg",)


def test_an_address_that_the_pool_would_not_pay_is_refused_before_anything_starts(
    state: Path,
) -> None:
    mainnet = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
    for user in ("notanaddress", mainnet, f"{mainnet}.rig"):
        done = tbg("up", "--state", str(state), "--free-ports", "--miner-user", user)
        assert done.returncode == 2
        assert f"--miner-user {user}: the user name must begin with your address" in done.stderr
    assert not (state / "logs").exists()


def test_a_node_that_is_frozen_is_named_in_the_line_and_in_the_status(
    up: Callable[..., Up], state: Path
) -> None:
    running = up("--no-dagster", "--no-miner", "--free-ports", "--every", "0.5").wait_until_up()
    assert tbg_status(state)["machine"]["problems"] == []
    node = psutil.Process(program_pid(state, "node"))
    node.suspend()
    try:
        running.wait_for(re.compile(r"the node at \S+ does not answer: .* \(\d+ s\)"))
        (problem,) = tbg_status(state)["machine"]["problems"]
        assert "does not answer" in problem
        assert "does not answer" in tbg("status", "--state", str(state)).stdout
    finally:
        node.resume()
    wait_until(lambda: tbg_status(state)["machine"]["problems"] == [], "the node answers")
    assert running.end() == 0, running.output


def test_each_part_is_named_when_it_is_ready_and_the_line_begins_before_dagster(
    up: Callable[..., Up], state: Path
) -> None:
    running = up("--free-ports", "--every", "0.2", "--no-miner").wait_until_up()
    lines = running.lines

    def first(text: str) -> int:
        return next(number for number, line in enumerate(lines) if text in line)

    pool = first("pool is ready: stratum+tcp://")
    assert first("shares/s") < first("webserver is ready")
    assert pool < first("webserver is ready")
    assert running.end() == 0, running.output


def test_a_program_that_dies_says_its_last_line(up: Callable[..., Up], state: Path) -> None:
    running = up().wait_until_up()
    with (state / "logs" / "writer.log").open("a") as log:
        log.write("the last words\n")
    os.kill(program_pid(state, "writer"), signal.SIGKILL)
    running.wait_for("its last line: the last words")
    assert running.end() == 0, running.output


def test_servers_that_the_environment_names_are_said_at_the_start(
    up: Callable[..., Up], state: Path, database_url: str
) -> None:
    running = up(DATABASE_URL=database_url).wait_until_up()
    said = next(line for line in running.lines if "DATABASE_URL is set: using" in line)
    assert urlsplit(database_url).path in said
    assert running.end() == 0, running.output


def test_little_room_on_the_disk_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=100e9, used=94e9, free=6e9)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert disk_trouble(tmp_path) is None
    usage.free = 4.9e9
    assert "only 4.9 GB" in (disk_trouble(tmp_path) or "")
    assert "(4.9%)" in (disk_trouble(tmp_path) or "")
