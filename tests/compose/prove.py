"""``make test-compose``: the compose file, run for real.

Builds the image, brings up the profiles ``devnet`` and ``miner`` under a project name
and on ports of its own, follows shares to the database and to Dagster, crashes one
container after another, restores a backup, and takes everything down.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import yaml

from tbg.init import initialise
from tbg.stack.embedded import free_port
from tests.compose.engine import Engine, ProofError, run
from tests.compose.project import Project, State, wait_for
from tests.processes import ROOT

NETWORKS: Final = ("signet", "regtest", "devnet")
PROFILES: Final = ("devnet", "miner")
IMAGE: Final = "tbg-mining-data:proof"
DOCKERFILE: Final = "images/tbg/Dockerfile"
SERVICES: Final = (
    "timescaledb",
    "redis",
    "ingest-receiver",
    "ingest-writer",
    "devnet-node",
    "devnet-pool",
    "miner",
    "dagster-code",
    "dagster-webserver",
    "dagster-daemon",
)
PORTS: Final = (
    "STRATUM_PORT",
    "DAGSTER_PORT",
    "POSTGRES_PORT",
    "REDIS_PORT",
    "BITCOIN_RPC_PORT",
    "RECEIVER_METRICS_PORT",
    "WRITER_METRICS_PORT",
)
HEALTHY_SECONDS: Final = 300.0
SCHEDULE_SECONDS: Final = 420.0  # the most frequent schedule comes every five minutes
RATE: Final = 50  # events a second of the simulated fleet
EVENTS: Final = "select coalesce(sum(events), 0) from engine_instances"
HOSTED: Final = "select count(*) from shares where source = 'hosted' and is_valid"
SIMULATED: Final = {
    "simulated shares": "select count(*) from shares where source = 'simulated'",
    "simulated events": "select count(*) from mining_events where source = 'simulated'",
    "simulated blocks": "select count(*) from blocks where source = 'simulated'",
    "users": "select count(*) from users",
}
STREAM: Final = "mining:share_submitted"


class Proof:
    """The steps, in order; each says what it saw and raises where it is wrong."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.began = time.monotonic()
        self.settings: dict[str, str] = {}
        engine.say = self.say
        self.project = self._project()

    def say(self, text: str) -> None:
        click.echo(f"[{time.monotonic() - self.began:6.1f} s] {text}")

    def _project(self) -> Project:
        env_file = self.folder / ".env"
        initialise(ROOT / ".env.example", env_file, "devnet")
        self.settings = {
            **{port: str(free_port()) for port in PORTS},
            "TBG_IMAGE": IMAGE,
            "LOG_LEVEL": "DEBUG",
            # Two cores are shared with everything else on this machine.
            "MINER_MAX_HASHRATE": "300000",
        }
        with env_file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in self.settings.items())
        name = f"tbg-proof-{os.getpid()}"
        return Project(self.engine, name, env_file, PROFILES)

    def run(self) -> None:
        self.check_configuration()
        self.engine.provide(self.images())
        built = self.engine.build(IMAGE, DOCKERFILE)
        size = self.engine.megabytes(IMAGE)
        self.say(f"image: {IMAGE} built in {built.seconds:.0f} s, {size:.0f} MB")
        try:
            self.start()
            self.follow_shares()
            self.look_at_dagster()
            self.crash_one_after_another()
            self.wait_for_schedule()
            self.restore_a_backup()
            self.account_for_everything()
        except (ProofError, KeyboardInterrupt):
            self.show_what_runs()
            raise
        finally:
            self.take_down()

    # ---- steps ----------------------------------------------------------------

    def check_configuration(self) -> None:
        version = run([*self.engine.compose, "version"]).stdout.splitlines()[0]
        self.say(f"compose: {version}")
        for network in NETWORKS:
            for extra in ((), ("miner", "monitoring")):
                profiles = (network, *extra)
                env_file = self.folder / ".env"
                done = Project(self.engine, self.project.name, env_file, profiles)
                shown = run([*done.command, "config", "--quiet"])
                if shown.stdout.strip() or shown.stderr.strip():
                    raise ProofError(f"config of {profiles}: {shown.stdout}{shown.stderr}")
        self.say(
            "config: clean for signet, regtest and devnet, alone and with miner and monitoring"
        )

    def images(self) -> list[str]:
        """What has to be there before anything is built or run."""
        shown = yaml.safe_load(self.project.compose("config"))
        services = [shown["services"][name] for name in (*SERVICES, "migrate")]
        found = {service["image"] for service in services if "build" not in service}
        for line in (ROOT / DOCKERFILE).read_text().splitlines():
            if match := re.match(r"FROM (\S+:\S+)", line):
                found.add(match[1])
        return sorted(found)

    def start(self) -> None:
        began = time.monotonic()
        healthy: dict[str, float] = {}
        with self._watching(healthy, began):
            self.project.compose("up", "-d", "--no-build", timeout=HEALTHY_SECONDS)
            self.say(f"up: `up -d` returned after {time.monotonic() - began:.1f} s")
            wait_for(
                "every service healthy",
                lambda: len(healthy) == len(SERVICES),
                HEALTHY_SECONDS,
            )
        for service, seconds in sorted(healthy.items(), key=lambda item: item[1]):
            self.say(f"up: {service:17} healthy after {seconds:5.1f} s")
        state = self.project.state("migrate")
        if state.running or state.exit_code != 0:
            raise ProofError(f"migrate did not end well: {self.project.logs('migrate')}")
        self.say(f"up: migrate said: {self.project.logs('migrate').strip().splitlines()[-1]}")
        for service in SERVICES:
            if (restarts := self.project.state(service).restarts) != 0:
                raise ProofError(f"{service} needed {restarts} restarts")
        self.say("up: nothing was restarted on the way")

    def follow_shares(self) -> None:
        wait_for("five shares in the database", lambda: self._shares() >= 5, 180)
        # Shares go on coming: looked at until one moment shows every hop the same.
        counts = wait_for("every hop has the same number of shares", self._agreeing_hops, 120)
        for hop, count in counts.items():
            self.say(f"shares: {count:4} {hop}")
        received = self._metric("RECEIVER", "tbg_received_total")
        self.say(f"events: {received} datagrams received, {self.project.number(EVENTS)} committed")
        if self._metric("RECEIVER", "tbg_sequence_gap_events_total"):
            raise ProofError("the receiver saw a sequence gap")

    def look_at_dagster(self) -> None:
        version = json.loads(self._get("/server_info"))["dagster_version"]
        answer = self._graphql("{ assetNodes { assetKey { path } } }")
        assets = len(answer["assetNodes"])
        if not assets:
            raise ProofError("the webserver shows no assets")
        self.say(f"dagster: the webserver answers: version {version}, {assets} assets")

    def crash_one_after_another(self) -> None:
        fleet = f"{self.project.name}-fleet"
        self._start_fleet(fleet)
        try:
            for service in ("redis", "timescaledb", "ingest-writer", "devnet-node"):
                self._crash(service)
            report = self._stop_fleet(fleet)
        finally:
            run([self.engine.docker, "rm", "-f", fleet], check=False)
        self._settle()
        self._compare_fleet(report)
        # The receiver's own crash can lose what it holds that moment; engines send that
        # again, the simulated fleet does not.
        for service in ("ingest-receiver", "devnet-pool", "miner"):
            self._crash(service)
        for service in ("dagster-code", "dagster-webserver", "dagster-daemon"):
            self._crash(service)
        started = time.monotonic()
        beats = "select count(*) from daemon_heartbeats where timestamp > now() at time zone 'utc' - interval '10 s'"
        wait_for(
            "the Dagster daemon beats again",
            lambda: int(self.project.query(beats, database="dagster")[0][0]) > 0,
            120,
        )
        self.say(f"crash: the Dagster daemon beat again {time.monotonic() - started:.1f} s later")

    def wait_for_schedule(self) -> None:
        query = """{ runsOrError(filter: {statuses: [SUCCESS]}, limit: 50) {
            ... on Runs { results { jobName tags { key value } } } } }"""

        def succeeded() -> str | None:
            for found in self._graphql(query)["runsOrError"]["results"]:
                for tag in found["tags"]:
                    if tag["key"] == "dagster/schedule_name":
                        return str(tag["value"])
            return None

        name = wait_for("a run that a schedule started", succeeded, SCHEDULE_SECONDS)
        self.say(f"dagster: the schedule {name} has run, and its run succeeded")

    def restore_a_backup(self) -> None:
        """Runs the commands of docs/compose.md as they stand there."""
        self.project.compose("stop", "miner", "devnet-pool")
        self._settle()
        before = self._contents()
        entries = int(self.project.redis("xlen", STREAM))
        self._documented("backup")
        sizes = [
            f"{path.name} {path.stat().st_size // 1024} KiB"
            for path in sorted(self.folder.glob("tbg.*"))
        ]
        self.project.query("truncate shares, mining_events, workers cascade")
        self.project.redis("flushall")
        started = time.monotonic()
        self._documented("restore")
        wait_for("everything healthy after the restore", self._all_healthy, HEALTHY_SECONDS)
        seconds = time.monotonic() - started
        after = self._contents()
        if int(self.project.redis("xlen", STREAM)) < entries:
            raise ProofError(f"{STREAM} had {entries} entries, and has fewer now")
        if after != before:
            raise ProofError(f"before the backup {before}, restored {after}")
        self.say(
            f"backup: {', '.join(sizes)}; all deleted; restored and healthy in {seconds:.0f} s"
        )
        self.say(f"backup: {before}, the same as before")
        migrated, writer = self.project.state("migrate"), self.project.state("ingest-writer")
        if not migrated.finished_at < writer.started_at:
            raise ProofError("the writer started before migrate had ended")
        self.say(
            f"upgrade: `up -d` migrated first: {self.project.logs('migrate').splitlines()[-1]}"
        )
        shares = self._shares()
        wait_for("shares flow after the restore", lambda: self._shares() > shares, 120)
        self.say("backup: shares flow again")

    def account_for_everything(self) -> None:
        """After crashes and a restore: every number of every engine start is there."""
        self.project.compose("stop", "miner")
        self.project.compose("stop", "devnet-pool")
        self._settle()
        rows = self.project.query(
            "select i.instance, i.source, i.seq_max, coalesce(numbers_in(n.numbers), 0), "
            "coalesce(n.events, 0), i.duplicates from engine_instances i "
            "left join stored_numbers('-infinity') n on n.instance_id = i.id order by i.id"
        )
        lost = twice = 0
        for instance, source, seq_max, numbers, stored_rows, duplicates in rows:
            self.say(
                f"account: {instance} ({source}): {seq_max} sent, {numbers} numbers in "
                f"{stored_rows} rows, {duplicates} came twice"
            )
            lost += int(seq_max) - int(numbers)
            twice += int(stored_rows) - int(numbers)
        dead = self.project.number("select count(*) from dead_letters")
        accepted = self.project.logs("miner").count('"share accepted"')
        stored = self._shares()
        self.say(
            f"account: {lost} lost, {twice} stored twice, {dead} dead letters; {accepted} shares accepted, says the miner, {stored} stored"
        )
        if lost or twice or dead or stored < accepted:
            raise ProofError("something was lost")

    def take_down(self) -> None:
        started = time.monotonic()
        self.project.compose("down", "--volumes", "--remove-orphans", check=False)
        left = run(
            [
                self.engine.docker,
                "ps",
                "-aq",
                "--filter",
                f"label=com.docker.compose.project={self.project.name}",
            ]
        ).stdout.split()
        if left:
            raise ProofError(f"{len(left)} containers are left")
        self.say(f"down: everything is gone after {time.monotonic() - started:.1f} s")

    # ---- what the steps use ---------------------------------------------------

    @contextlib.contextmanager
    def _watching(self, healthy: dict[str, float], began: float) -> Iterator[None]:
        """Notes when each service is healthy for the first time."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                for service in SERVICES:
                    if service in healthy:
                        continue
                    # Not there yet, most often.
                    with contextlib.suppress(ProofError):
                        if self.project.state(service).health == "healthy":
                            healthy[service] = time.monotonic() - began

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _crash(self, service: str) -> None:
        before = self.project.state(service)
        events = self.project.number(EVENTS)
        started = time.monotonic()
        self.project.crash(service)

        def back() -> State | None:
            state = self.project.state(service)
            again = state.restarts > before.restarts and state.health == "healthy"
            return state if again else None

        wait_for(f"{service} healthy after a crash", back, HEALTHY_SECONDS)
        healthy = time.monotonic() - started
        wait_for(
            f"events after the crash of {service}",
            lambda: self.project.number(EVENTS) > events + 2,
            180,
        )
        flowing = time.monotonic() - started
        wait_for("everything else healthy too", self._all_healthy, HEALTHY_SECONDS)
        everything = time.monotonic() - started
        self.say(
            f"crash: {service:17} healthy after {healthy:4.1f} s, events committed after "
            f"{flowing:4.1f} s, all healthy after {everything:4.1f} s"
        )

    def _all_healthy(self) -> bool:
        return all(self.project.state(service).health == "healthy" for service in SERVICES)

    def _start_fleet(self, name: str) -> None:
        self.project.compose(
            *("run", "-d", "--no-deps", "--name", name, "devnet-pool"),
            *("tbg", "devnet", "simulate", "--rate", str(RATE), "--patience", "120", "--json"),
        )
        self.say(f"fleet: simulated miners send {RATE} events a second meanwhile")

    def _stop_fleet(self, name: str) -> dict[str, Any]:
        run([self.engine.docker, "stop", "-t", "60", name])
        shown = run([self.engine.docker, "logs", name]).stdout
        report: dict[str, Any] = json.loads(shown[shown.index("{") :])
        return report

    def _compare_fleet(self, report: dict[str, Any]) -> None:
        rows = self.project.query(
            "select sum(numbers_in(n.numbers)), sum(n.events) from engine_instances i "
            "join stored_numbers('-infinity') n on n.instance_id = i.id "
            "where i.instance = any (string_to_array(:'names', ' '))",
            names=" ".join(report["instances"]),
        )
        self.say(
            f"fleet: {report['events']} events sent, {sum(report['dropped'].values())} dropped, "
            f"{rows[0][0]} numbers in {rows[0][1]} rows"
        )
        if report["dropped"] or {int(rows[0][0]), int(rows[0][1])} != {report["events"]}:
            raise ProofError("the fleet's events are not all there")

    def _settle(self) -> None:
        """Waits until what the receiver has read is committed, all of it."""

        def settled() -> bool:
            committed = self.project.number(EVENTS)
            time.sleep(2)
            lag = self._metric("WRITER", "tbg_stream_lag_entries")
            return lag == 0 and self.project.number(EVENTS) == committed

        wait_for("the streams are committed", settled, 120)

    def _contents(self) -> dict[str, int]:
        """Rows that nothing adds to any more, whatever flows."""
        return {what: self.project.number(sql) for what, sql in SIMULATED.items()}

    def _shares(self) -> int:
        return self.project.number(HOSTED)

    def _agreeing_hops(self) -> dict[str, int] | None:
        stream = int(self.project.redis("xlen", STREAM))
        committed = self._metric("WRITER", 'tbg_committed_total{event="share_submitted"}')
        counts = {
            "accepted, says the miner": self.project.logs("miner").count('"share accepted"'),
            "in the Redis stream": stream,
            "committed, says the writer": committed,
            "in the hypertable": self._shares(),
        }
        return counts if len(set(counts.values())) == 1 else None

    def _metric(self, stage: str, name: str) -> int:
        """The sum of a metric's samples; ``name`` may begin a label set."""
        port = self.settings[f"{stage}_METRICS_PORT"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))

    def _get(self, path: str, body: bytes | None = None) -> str:
        url = f"http://127.0.0.1:{self.settings['DAGSTER_PORT']}{path}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  the stack's own port
                return str(answer.read().decode())
        except OSError as error:
            raise ProofError(f"{url}: {error}") from error

    def _graphql(self, query: str) -> dict[str, Any]:
        answer = json.loads(self._get("/graphql", json.dumps({"query": query}).encode()))
        if answer.get("errors"):
            raise ProofError(f"GraphQL: {answer['errors']}")
        data: dict[str, Any] = answer["data"]
        return data

    def _documented(self, kind: str) -> None:
        """Runs the block of docs/compose.md that is marked ``sh <kind>``, in the folder."""
        text = (ROOT / "docs" / "compose.md").read_text()
        match = re.search(rf"^```sh {kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if match is None:
            raise ProofError(f"docs/compose.md has no block for {kind}")
        words = " ".join(f"'{word}'" for word in self.project.command)
        # This machine's compose, and this project, for what the page calls docker compose.
        shim = f'docker() {{ shift; {words} "$@"; }}\n'
        run(
            ["bash", "-euo", "pipefail", "-c", f"cd '{self.folder}'\n{shim}{match[1]}"],
            timeout=HEALTHY_SECONDS,
        )

    def show_what_runs(self) -> None:
        for service in (*SERVICES, "migrate"):
            with contextlib.suppress(ProofError):
                state = self.project.state(service)
                lines = self.project.logs(service).splitlines()[-12:]
                self.say(f"{service}: {state}\n    " + "\n    ".join(line[:300] for line in lines))


@click.command()
@click.option("--keep", is_flag=True, help="Keep the stand-ins' tags on the real images' names.")
def prove(keep: bool) -> None:
    """Run the compose file for real, and take everything down again."""
    with tempfile.TemporaryDirectory(prefix="tbg-proof-") as name:
        folder = Path(name)
        try:
            engine = Engine.find(click.echo)
            with engine.daemon(Path(tempfile.gettempdir()) / "tbg-proof-dockerd.log"):
                proof = Proof(engine, folder)
                try:
                    proof.run()
                finally:
                    if not keep:
                        engine.untag()
                proof.say("proved")
        except ProofError as error:
            click.echo(f"not proved: {error}", err=True)
            sys.exit(1)


if __name__ == "__main__":
    prove()
