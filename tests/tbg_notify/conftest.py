"""A migrated database, and rows as the writer and the batch side leave them."""

from collections.abc import Iterator

import pytest

from tests.tbg_dagster.conftest import (
    History,
    client,
    clock,
    connection,
    history,
    instance,
    resources,
    run,
)
from tests.tbg_notify.channels import Mail, Web, mail, web

__all__ = ["History", "client", "clock", "connection", "history", "instance", "resources", "run"]


@pytest.fixture
def ntfy() -> Iterator[Web]:
    """A server shaped as ntfy."""
    with web() as served:
        yield served


@pytest.fixture
def hook() -> Iterator[Web]:
    """A webhook."""
    with web() as served:
        yield served


@pytest.fixture
def smtp() -> Iterator[Mail]:
    """A mail server."""
    with mail() as served:
        yield served
