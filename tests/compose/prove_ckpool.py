"""``make test-image``: the ckpool image, built as it is and run in ``signet`` and ``tls``.

Upstream's text is not in this repository. So git finds a stand-in for it at the mirrors'
addresses, and the node is this project's own. The Dockerfile, the compose file and all
that they start are real.
"""

import ipaddress
import os
import re
import resource
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import click

from tbg.init import initialise
from tbg.stack.embedded import free_port
from tests.ckpool.standin import MINER, mine, stand_in
from tests.compose.engine import STANDIN, STANDINS, Engine, ProofError, run
from tests.compose.project import Project, wait_for
from tests.compose.prove import DOCKERFILE, HEALTHY_SECONDS, IMAGE, PORTS
from tests.haproxy import certificate
from tests.processes import ROOT

CKPOOL: Final = "tbg-ckpool:proof"
UPSTREAM: Final = f"{STANDIN}/upstream:bookworm"
NODE: Final = f"{STANDIN}/node:bookworm"
SERVICES: Final = (
    "timescaledb",
    "redis",
    "ingest-receiver",
    "ingest-writer",
    "bitcoin-signet",
    "ckpool",
    "stratum-tls",
)
PACKED: Final = ("src/src/stratifier.c", "src/src/tbg_events.c", "fork/weave")
# The times that a build says so, once for each configuration.
SAID: Final = {"settings compared": 3, "Configuration check of": 3}
CERTIFICATE: Final = ROOT / "tls" / "stratum.pem"
SHARES: Final = "select count(*) from shares where is_valid"
BOOTS: Final = (
    "select instance, seq_max, seq_declared, unsent, state, coalesce(numbers_in(n.numbers), 0) "
    "from engine_instances i left join stored_numbers('-infinity') n on n.instance_id = i.id "
    "order by i.id"
)


class Proof:
    """The steps, in order; each says what it saw and raises where it is wrong.

    Attributes:
        network: the profile of the compose file that mines.
        pool: its service.
        services: all that run.
    """

    network: Literal["signet", "regtest"] = "signet"
    pool = "ckpool"
    services: tuple[str, ...] = SERVICES

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.began = time.monotonic()
        self.accepted = 0
        engine.say = self.say
        env_file = folder / ".env"
        initialise(ROOT / ".env.example", env_file, self.network)
        settings = {
            **{port: str(free_port()) for port in (*PORTS, "STRATUM_TLS_PORT")},
            "TBG_IMAGE": IMAGE,
            "CKPOOL_IMAGE": CKPOOL,
            "BITCOIN_IMAGE": NODE,
            "CKPOOL_OPEN_FILES": str(min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
        }
        with env_file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())
        self.port, self.tls = int(settings["STRATUM_PORT"]), int(settings["STRATUM_TLS_PORT"])
        self.project = Project(engine, f"tbg-proof-{os.getpid()}", env_file, [self.network, "tls"])

    def say(self, text: str) -> None:
        click.echo(f"[{time.monotonic() - self.began:6.1f} s] {text}")

    def run(self) -> None:
        if CERTIFICATE.exists():
            raise ProofError(f"{CERTIFICATE} is yours: the proof needs a place for its own")
        self.build()
        try:
            self.certify()
            self.start()
            self.look_inside()
            self.follow_shares()
            self.mine_over_tls()
            self.check_health()
            self.stop()
            self.kill()
            self.account()
        except (ProofError, OSError, KeyboardInterrupt):
            self.show()
            raise
        finally:
            self.project.compose("down", "--volumes", "--remove-orphans", check=False)
            CERTIFICATE.unlink(missing_ok=True)
            self.say("down: everything is gone")

    # ---- steps ----------------------------------------------------------------

    def build(self) -> None:
        debian = dockerfile_says("DEBIAN")
        self.provide(debian)
        self.engine.build(NODE, str(STANDINS / "node.Dockerfile"), str(STANDINS))
        commit = self.upstream(debian)
        self.build_pool(commit, [f"DEBIAN={UPSTREAM}", f"CKPOOL_COMMIT={commit}"])

    def provide(self, debian: str) -> None:
        """Base images, and our own image."""
        bases = re.findall(r"(?m)^FROM (\S+:\S+)", (ROOT / DOCKERFILE).read_text())
        compose = (ROOT / "docker-compose.yml").read_text()
        stores = re.findall(r"image: ((?:haproxy|redis|timescale/timescaledb):\S+)", compose)
        self.engine.provide(sorted({debian, *bases, *stores}))
        self.engine.build(IMAGE, DOCKERFILE)

    def build_pool(self, commit: str, arguments: list[str]) -> None:
        built = self.engine.build(CKPOOL, "ckpool/Dockerfile", "ckpool", arguments)
        size = self.engine.megabytes(CKPOOL)
        self.say(f"image: {CKPOOL} built in {built.seconds:.0f} s, {size:.0f} MB")
        for what, times in SAID.items():
            found = built.output.count(what)
            if found != times and "CACHED" not in built.output:  # it was said before
                raise ProofError(f"the build says {what!r} {found} times, not {times}")
        inside = self.once("cat /opt/ckpool/UPSTREAM_COMMIT")
        if inside.strip() != commit:
            raise ProofError(f"built from {inside}, not from {commit}")
        packed = self.once("tar -tzf /opt/ckpool/source/ckpool-woven.tar.gz")
        for name in PACKED:
            if f"{name}\n" not in packed:
                raise ProofError(f"the source that goes along lacks {name}")
        tools = self.once("command -v gcc git spatch make python3 || true").strip()
        if tools:
            raise ProofError(f"the image has tools of its build: {tools}")
        self.say(f"image: of commit {commit}, with its woven source and without its build's tools")

    def upstream(self, debian: str) -> str:
        """Makes the base image that holds the stand-in's repository; its commit."""
        context, tree = self.folder / "upstream", self.folder / "tree"
        context.mkdir()
        stand_in(tree)
        git = ["git", "-C", str(tree), "-c", "user.name=proof", "-c", "user.email=proof@localhost"]
        run([*git, "init", "-q"])
        run([*git, "add", "-A"])
        # Always the same commit of the same files, so that the build's cache serves.
        dates = {f"GIT_{who}_DATE": "2026-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")}
        run([*git, "commit", "-q", "-m", "A miniature"], env=dates)
        run(["git", "clone", "-q", "--bare", str(tree), str(context / "upstream.git")])
        run(["git", "-C", str(context / "upstream.git"), "remote", "remove", "origin"])
        mirrors = re.findall(r"https://\S+\.git", (ROOT / "ckpool/Dockerfile").read_text())
        (context / "gitconfig").write_text(
            f'[url "file:///upstream.git"]\n\tinsteadOf = {mirrors[0]}\n[safe]\n\tdirectory = *\n'
        )
        dockerfile = str(STANDINS / "upstream.Dockerfile")
        self.engine.build(UPSTREAM, dockerfile, str(context), [f"DEBIAN={debian}"])
        return run([*git, "rev-parse", "HEAD"]).stdout.strip()

    def certify(self) -> None:
        made, key = certificate(self.folder)
        CERTIFICATE.write_text(made.read_text() + key.read_text())
        # haproxy's user reads it: alone, where we may give it away.
        if os.geteuid() == 0:
            os.chown(CERTIFICATE, 99, -1)
        CERTIFICATE.chmod(0o400 if os.geteuid() == 0 else 0o444)

    def start(self) -> None:
        began = time.monotonic()
        self.project.compose(
            *("up", "-d", "--no-build", self.pool, "ingest-writer", "stratum-tls"),
            timeout=HEALTHY_SECONDS,
        )
        wait_for("every service healthy", self.all_healthy, HEALTHY_SECONDS)
        for service in self.services:
            if (restarts := self.project.state(service).restarts) != 0:
                raise ProofError(f"{service} needed {restarts} restarts")
        self.say(f"up: everything healthy after {time.monotonic() - began:.1f} s, no restart")

    def look_inside(self) -> None:
        """Who runs, and what it could do if someone took it over."""
        identity = self.inside("id")
        if not re.match(r"uid=10333\(ckpool\) gid=10333\(ckpool\) groups=.*10100", identity):
            raise ProofError(f"it runs as {identity}")
        status = self.inside("cat /proc/1/status")
        for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
            if line not in status:
                raise ProofError(f"process 1 lacks {line!r}:\n{status}")
        mounts = self.inside("cut -d ' ' -f 2,4 /proc/mounts").splitlines()
        for path in ("/", "/run/tbg"):
            if not any(line.startswith(f"{path} ro,") for line in mounts):
                raise ProofError(f"{path} is not read-only: {mounts}")
        socket = self.inside("stat -c '%g %a' /run/tbg/events.sock").strip()
        if socket != "10100 660":
            raise ProofError(f"the socket belongs to group and has mode {socket}")
        filled = self.inside("stat -c '%u %a' /opt/ckpool/run/ckpool.conf").strip()
        if filled != "10333 600":
            raise ProofError(f"the filled configuration belongs to {filled}")
        if self.inside("stat -f -c %T /opt/ckpool/run").strip() != "tmpfs":
            raise ProofError("the password of the node is on a disk")
        tested = self.project.compose("run", "--rm", "--no-deps", self.pool, "-T")
        if "Configuration check of" not in tested:
            raise ProofError(f"-T says: {tested}")
        self.say(f"inside: {identity.strip()}, no capability, a read-only root; -T passes")

    def follow_shares(self) -> None:
        self.mine(["6a", "6b"])
        rows = self.project.query(
            "select btc_address || '.' || worker_name, source, ip_address is not null from shares_hex"
        )
        if rows != [[MINER, "hosted", "t"]] * 2:
            raise ProofError(f"shares: {rows}")
        tips = self.project.number(
            "select count(*) from mining_events where event = 'new_block_network'"
        )
        if not tips:
            raise ProofError("the tip did not come")
        self.say("shares: two of two in the database, with user, worker and address")

    def mine_over_tls(self) -> None:
        """The share has the address that haproxy was dialled from, and not haproxy's own."""
        self.mine(["7a"], ssl.create_default_context(cafile=self.folder / "pool.pem"))
        newest = "select host(ip_address) from shares order by time desc limit 1"
        ((found,),) = self.project.query(newest)
        # This machine reaches a published port by the network's gateway.
        network = ipaddress.ip_network("10.213.33.0/28")
        if found == "10.213.33.2" or ipaddress.ip_address(found) not in network:
            raise ProofError(f"the share over TLS came from {found}")
        self.say(f"tls: a share over TLS from {found}, which is not haproxy's address")

    def check_health(self) -> None:
        script = "/opt/ckpool/bin/healthcheck; echo $?"
        frozen = self.inside(f"kill -STOP -1; {script}; kill -CONT -1").strip()
        if (frozen, self.inside(script).strip()) != ("1", "0"):
            raise ProofError(f"a frozen pool is healthy: {frozen}")
        self.say("health: a frozen pool is ill, one that goes on is well")

    def stop(self) -> None:
        self.mine(["6c"])
        began = time.monotonic()
        self.project.compose("stop", self.pool)
        seconds = time.monotonic() - began
        state = self.project.state(self.pool)
        if state.exit_code != 0 or seconds > 25:
            raise ProofError(f"SIGTERM: exit {state.exit_code} after {seconds:.0f} s")
        self.ended(1)
        self.say(f"SIGTERM: exit 0 after {seconds:.1f} s, the end is in the books")
        self.project.compose("start", self.pool)
        wait_for("ckpool healthy again", self.all_healthy, HEALTHY_SECONDS)

    def kill(self) -> None:
        """kill -9, by what restarts it and by hand: the last number is known exactly."""
        self.mine(["6d"])
        before = self.project.state(self.pool).restarts
        self.project.crash(self.pool)
        wait_for("a restart", lambda: self.project.state(self.pool).restarts > before, 60)
        wait_for("ckpool healthy again", self.all_healthy, HEALTHY_SECONDS)
        self.ended(2)
        self.mine(["6e"])
        run([self.engine.docker, "kill", "-s", "KILL", self.project.container(self.pool)])
        self.project.compose("up", "-d", "--no-build", self.pool)
        wait_for("ckpool healthy again", self.all_healthy, HEALTHY_SECONDS)
        self.ended(3)
        self.say("kill -9: restarted twice; both boots ended at their exact last number")

    def account(self) -> None:
        self.project.compose("stop", self.pool)
        rows = self.ended(4)
        for instance, *_, stored in rows:
            self.say(f"account: {instance}: {stored} numbers, all stored")
        stored_shares = self.project.number(SHARES)
        if stored_shares != self.accepted or self.project.number(
            "select count(*) from dead_letters"
        ):
            raise ProofError(f"{self.accepted} shares were accepted, {stored_shares} are stored")
        self.say(f"account: {self.accepted} shares accepted, {stored_shares} stored, nothing lost")

    # ---- what the steps use ---------------------------------------------------

    def once(self, script: str) -> str:
        command = [self.engine.docker, "run", "--rm", "--entrypoint", "sh", CKPOOL, "-c", script]
        return run(command).stdout

    def inside(self, script: str) -> str:
        return self.project.execute(self.pool, "sh", "-c", script)

    def all_healthy(self) -> bool:
        return all(self.project.state(service).health == "healthy" for service in self.services)

    def mine(self, hashes: list[str], tls: ssl.SSLContext | None = None) -> None:
        """Submits shares, and waits until they are in the database."""
        answers = mine(self.tls if tls else self.port, hashes, tls=tls)
        if answers[1:] != [True] * (1 + len(hashes)):
            raise ProofError(f"the pool answered {answers}")
        self.accepted += len(hashes)
        wait_for("the shares", lambda: self.project.number(SHARES) >= self.accepted, 120)

    def ended(self, boots: int) -> list[list[str]]:
        """Waits until so many boots are over, each known to its last number, nothing missing."""
        seen: list[list[str]] = []

        def over() -> bool:
            seen[:] = self.project.query(BOOTS)[:boots]
            return len(seen) == boots and all(
                row[1:] == [row[1], row[1], "0", "ended", row[1]] for row in seen
            )

        try:
            wait_for(f"the end of {boots} boots", over, 120)
        except ProofError as error:
            raise ProofError(f"{error}; {seen}") from None
        return seen

    def show(self) -> None:
        for service in (*self.services, "migrate"):
            with suppress(ProofError):
                state = self.project.state(service)
                lines = self.project.logs(service).splitlines()[-12:]
                self.say(f"{service}: {state}\n    " + "\n    ".join(line[:300] for line in lines))


def dockerfile_says(argument: str) -> str:
    """The default of an argument of ckpool's Dockerfile."""
    text = (ROOT / "ckpool/Dockerfile").read_text()
    (found,) = re.findall(rf"(?m)^ARG {argument}=(\S+)$", text)
    return str(found)


@contextmanager
def engine() -> Iterator[Engine]:
    found = Engine.find(click.echo)
    with found.daemon(Path(tempfile.gettempdir()) / "tbg-proof-dockerd.log"):
        try:
            yield found
        finally:
            found.untag()


def prove(kind: type[Proof] = Proof) -> None:
    with tempfile.TemporaryDirectory(prefix="tbg-proof-") as name:
        try:
            with engine() as found:
                proof = kind(found, Path(name))
                proof.run()
                proof.say("proved")
        except ProofError as error:
            click.echo(f"not proved: {error}", err=True)
            sys.exit(1)


if __name__ == "__main__":
    prove()
