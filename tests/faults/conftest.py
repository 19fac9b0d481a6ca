"""Options of the fault suite, and its summary."""

import secrets

import pytest

from tests.faults import summary
from tests.faults.kinds import KINDS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption(
        "--faults", type=int, help="how many faults to inject (default: each kind once)"
    )
    group.addoption("--first-fault", type=int, help="number of the first one, to repeat a failure")
    group.addoption("--fault-seed", help="seed of a run to repeat")
    group.addoption("--flood-events", type=int, help="events sent while the database is away")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    long = bool(config.getoption("--faults", None) or config.getoption("--flood-events", None))
    for item in items:
        if "tests/faults/" in item.path.as_posix() and long:
            item.add_marker(pytest.mark.timeout(0))  # each wait in it has a limit of its own


@pytest.fixture
def fault_numbers(pytestconfig: pytest.Config) -> range:
    """Numbers of the faults to inject."""
    first: int = pytestconfig.getoption("--first-fault", None) or 0
    count: int = pytestconfig.getoption("--faults", None) or len(KINDS)
    return range(first, first + count)


@pytest.fixture
def fault_seed(pytestconfig: pytest.Config) -> str:
    """Seed of everything that is drawn."""
    return str(pytestconfig.getoption("--fault-seed", None) or secrets.token_hex(4))


@pytest.fixture
def flood_events(pytestconfig: pytest.Config) -> int:
    """How many events to send while the database is away."""
    count: int = pytestconfig.getoption("--flood-events", None) or 200_000
    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    text = summary.render()
    if text:
        terminalreporter.write_sep("=", "fault suite")
        terminalreporter.write_line(text)
