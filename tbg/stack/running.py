"""A running stack: starts its programs in order, watches and stops them."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import click
import psycopg

from tbg.migrate import migrate
from tbg.stack.clock import wait_for_clock
from tbg.stack.logs import tail
from tbg.stack.program import Program, check_ports
from tbg.stack.programs import StackPlan
from tbg.stack.state import Stack
from tbg.stack.supervisor import BROKEN, Process, Supervisor, stop_leftovers
from tbg_core.wording import printable

# For a program that says nothing. One that says what it does, such as a database that recovers
# from a crash, gets all the time that it needs.
READY_SECONDS: Final = 180.0
SAY_SECONDS: Final = 30.0  # between two lines about such a program
LONGEST_PAUSE: Final = 1.0  # seconds between two looks at a program that is not ready
# supervisord gives up a program after ten quick deaths; we start it again.
GIVEN_UP_SECONDS: Final = 60.0
# A program without a probe counts as ready when it has lived this long.
PROVED_SECONDS: Final = 2.0
SPAWN_SECONDS: Final = 1.0
LONGEST_LINE: Final = 300  # characters of a program's last line

Say = Callable[[str], None]


class Interrupted(Exception):
    """Shutdown was requested while the stack was starting."""


class RunningStack:
    """The programs of a plan under a supervisor.

    Args:
        say: receives what happens, a line at a time.
        interrupted: returns whether the end was asked for.
        waiting: is called again and again while a program is not ready, once there is a schema.
    """

    def __init__(
        self,
        plan: StackPlan,
        say: Say,
        interrupted: Callable[[], bool],
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self._waiting = waiting
        self._migrated = False
        self._say = say
        self._interrupted = interrupted
        self._supervisor = Supervisor(plan.state)
        self._seen: dict[str, Process] = {}
        self._started: list[Program] = []
        self._given_up: dict[str, float] = {}

    def start(self, before: Mapping[str, Callable[[], object]] | None = None) -> None:
        """Starts everything, each program once the one before it is ready.

        Args:
            before: what to do before a program, by its name, is started.

        Raises:
            click.ClickException: when a port is taken or a program does not get ready.
            Interrupted: when shutdown is requested meanwhile.
        """
        left = stop_leftovers(self.plan.state)
        if left:
            self._say(f"stopped what an earlier stack left running: {', '.join(left)}")
        check_ports(self.plan.programs)
        self.plan.state.make_runtime()
        self.plan.state.write_stack(self._describe())
        self._supervisor.start([program.launch for program in self.plan.programs])
        for program in self.plan.programs:
            if self._interrupted():
                raise Interrupted
            if program.name in ("receiver", "writer") and not self._migrated:
                migrate(self.plan.database_url, say=self._say)
                self._migrated = True
                if not self.plan.options.trust_clock:
                    wait_for_clock(self.plan.database_url, self._say, self._interrupted)
                if self._interrupted():
                    raise Interrupted
            if before and program.name in before:
                before[program.name]()
            try:
                self._start(program)
            except (*BROKEN, psycopg.Error) as error:
                raise click.ClickException(
                    f"{program.name} could not be started: {error}\n{tail(self._supervisor.log)}"
                ) from error

    def _describe(self) -> Stack:
        plan = self.plan
        return Stack(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            database_url=plan.database_url,
            redis_url=plan.redis_url,
            socket_path=str(plan.socket_path),
            receiver_metrics_port=plan.options.ports.receiver_metrics_port,
            writer_metrics_port=plan.options.ports.writer_metrics_port,
            rpc=plan.node.environment() if plan.node else {},
            stratum_url=plan.stratum_url,
            dagster_url=plan.dagster_url,
            api_url=plan.api_url,
            archive_url=plan.archive_url,
            alerts_file=plan.alerts_file,
            dagster_database_url=plan.dagster_database_url,
            resting=plan.resting,
            programs=tuple(program.name for program in plan.programs),
        )

    def _start(self, program: Program) -> None:
        self._say(f"starting {program.name}")
        try:
            said = program.prepare()
        except (click.ClickException, RuntimeError, OSError) as error:
            raise click.ClickException(f"{program.name}: {error}") from error
        if said:
            self._say(said)
        self._supervisor.start_program(program.name)
        self._started.append(program)
        begun = time.monotonic()
        deadline = begun + READY_SECONDS
        pause, said_at = 0.05, begun
        while True:
            found = self._supervisor.processes()[program.name]
            if found.running and (
                program.ready() if program.ready else found.uptime >= PROVED_SECONDS
            ):
                break
            # A signal between fork and exec is lost, and the program would be killed half
            # a minute later: wait until it has started.
            if self._interrupted() and time.monotonic() > begun + SPAWN_SECONDS:
                raise Interrupted
            now = time.monotonic()
            if busy := program.busy():
                deadline = now + READY_SECONDS
                if now - said_at >= SAY_SECONDS:
                    said_at = now
                    self._say(f"{program.name} needs time ({now - begun:.0f} s so far): {busy}")
            if found.state in ("BACKOFF", "FATAL") or time.monotonic() > deadline:
                why = "did not get ready" if found.running else "ended"
                log = self.plan.state.log_of(program.name)
                raise click.ClickException(f"{program.name} {why}; the end of {log}:\n{tail(log)}")
            if self._migrated:
                self._waiting()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        program.after()
        self._say(f"{program.name} is ready: {program.where}")
        self._seen[program.name] = self._supervisor.processes()[program.name]

    def watch(self) -> Iterator[str]:
        """Yields what changed since the last call: what died, what is back.

        Raises:
            click.ClickException: when supervisord itself is gone.
        """
        try:
            now = self._supervisor.processes()
        except BROKEN as error:
            raise click.ClickException(
                f"supervisord no longer answers ({error}); everything is stopped.\n"
                f"{tail(self._supervisor.log)}"
            ) from error
        for name, process in now.items():
            before = self._seen.get(name)
            if before is None:
                continue
            if process.pid != before.pid and before.pid:
                why = self._supervisor.exit_of(name, before.pid)
                log = self.plan.state.log_of(name)
                last = printable(tail(log, 1).strip())[:LONGEST_LINE]
                yield f"{name} ({before.pid}) died: {why}; log: {log}; its last line: {last}"
            if process.state == "BACKOFF" and before.state != "BACKOFF":
                yield f"{name} is started again after a pause"
            if process.running and process.pid != before.pid:
                yield f"{name} runs again ({process.pid})"
            if process.state == "FATAL":
                yield from self._retry(name, first=before.state != "FATAL")
            self._seen[name] = process

    def _retry(self, name: str, *, first: bool) -> Iterator[str]:
        now = time.monotonic()
        if first:
            self._given_up[name] = now
            yield f"{name} keeps dying; next try in {GIVEN_UP_SECONDS:.0f} s"
        elif now - self._given_up[name] > GIVEN_UP_SECONDS:
            self._given_up[name] = now
            self._supervisor.start_program(name)

    def seen(self, name: str) -> Process | None:
        """Returns what was last seen of a program; None if it was not started."""
        return self._seen.get(name)

    def stop_program(self, name: str) -> None:
        """Stops one program and waits until it has ended.

        Raises:
            one of BROKEN: when supervisord is gone.
        """
        self._say(f"stopping {name}")
        self._seen.pop(name, None)
        self._started = [program for program in self._started if program.name != name]
        self._supervisor.stop_program(name)

    def begin(self, name: str) -> None:
        """Starts one program that was stopped, unless it runs, and waits until it is ready.

        Raises:
            click.ClickException: when it does not get ready.
            Interrupted: when shutdown is requested meanwhile.
            one of BROKEN: when supervisord is gone.
        """
        if self.seen(name) is None:
            [program] = (one for one in self.plan.programs if one.name == name)
            self._started = [one for one in self._started if one.name != name]
            self._start(program)

    def stop(self) -> None:
        """Stops everything, last started first, each before the next."""
        for program in reversed(self._started):
            try:
                self.stop_program(program.name)
            except BROKEN:
                break  # shutdown() ends what is left
        self._supervisor.shutdown()

    def kill(self) -> None:
        """Ends everything at once; the write-ahead logs recover it."""
        self._supervisor.abandon()
