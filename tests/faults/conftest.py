"""Options of the fault suite, and its summary."""

import faulthandler
import secrets
from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.faults.kinds import KINDS
from tests.faults.stack import Account
from tests.faults.summary import Summary, render


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption(
        "--faults", type=int, help="how many faults to inject (default: one of each kind)"
    )
    group.addoption("--first-fault", type=int, help="number of the first one, to repeat a failure")
    group.addoption("--fault-seed", help="seed of a run to repeat")
    group.addoption("--flood-events", type=int, help="events sent while the database is away")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/faults/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(0))  # each wait in it has a limit of its own


def pytest_runtest_setup() -> None:
    faulthandler.cancel_dump_traceback_later()  # for the same reason


@pytest.fixture
def fault_numbers(pytestconfig: pytest.Config) -> range:
    """Numbers of the faults to inject."""
    first: int = pytestconfig.getoption("--first-fault", None) or 0
    count: int = pytestconfig.getoption("--faults", None) or len(KINDS)
    return range(first, first + count)


@pytest.fixture
def fault_seed(pytestconfig: pytest.Config) -> str:
    """Seed of everything that is drawn."""
    # An ordinary run repeats one sequence; a long one draws its own, and prints its seed.
    drawn = secrets.token_hex(4) if pytestconfig.getoption("--faults", None) else "ordinary"
    return str(pytestconfig.getoption("--fault-seed", None) or drawn)


@pytest.fixture
def flood_events(pytestconfig: pytest.Config) -> int:
    """How many events to send while the database is away."""
    count: int = pytestconfig.getoption("--flood-events", None) or 200_000
    return count


@pytest.fixture
def backlog_events(pytestconfig: pytest.Config) -> int:
    """How many events wait while the writer does not work: more in a long run."""
    return 300_000 if pytestconfig.getoption("--faults", None) else 100_000


Tell = Callable[[str, Account, float], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Tells the summary of a fault: its kind, what became of the events, seconds to recover.

    With the test's report, because tests may run in processes of their own.
    """

    def one(kind: str, sums: Account, recovery: float) -> None:
        request.node.user_properties.append(("fault", (kind, asdict(sums), recovery)))

    return one


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts a line below the summary."""

    def one(text: str) -> None:
        request.node.user_properties.append(("fault note", text))

    return one


@pytest.fixture
def show(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Prints a line at once where the run is a long one."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def one(text: str) -> None:
        if pytestconfig.getoption("--faults", None) and capture is not None:
            with capture.global_and_fixture_disabled():
                print(text, flush=True)

    return one


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = Summary()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, value in report.user_properties:
                if name == "fault":
                    told.fault(*value)
                elif name == "fault note":
                    told.notes.append(value)
    if told.lines:
        terminalreporter.write_sep("=", "fault suite")
        terminalreporter.write_line(render(told))
