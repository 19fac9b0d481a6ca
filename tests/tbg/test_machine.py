"""What stands in the way on a machine is found, with what to do."""

import socket
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from tbg import machine
from tbg.machine import Finding, look
from tbg.stack.ports import HOST, Ports
from tbg_core import disk


def about(findings: list[Finding], name: str) -> Finding:
    (found,) = (one for one in findings if one.about == name)
    return found


def test_every_look_ends_with_a_finding_on_this_machine(tmp_path: Path) -> None:
    found = list(look(tmp_path / "not" / "made" / "yet", running=False))
    assert {"clock", "disk", "open files", "ports", "Python"} <= {one.about for one in found}
    assert all(one.action for one in found if one.state in ("warning", "bad"))


def test_limits_that_are_low_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("unix/max_dgram_qlen", "10"), ("core/wmem_default", "212992")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    monkeypatch.setattr(machine, "SETTINGS", tmp_path)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    found = list(look(tmp_path, running=False))
    queue = about(found, "net.unix.max_dgram_qlen")
    assert queue.state == "warning"
    assert "sysctl -w net.unix.max_dgram_qlen=4096" in queue.action
    assert about(found, "net.core.wmem_default").state == "good"
    (tmp_path / "core" / "wmem_default").unlink()
    assert about(list(look(tmp_path, running=False)), "net.core.wmem_default").state == "unknown"


def test_a_disk_that_is_nearly_full_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(total=100_000_000_000, used=97_000_000_000, free=3_000_000_000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: full)  # type: ignore[attr-defined]  # the module that it uses
    found = about(list(look(tmp_path, running=False)), "disk")
    assert found.state == "bad"
    assert "only 3.0 GB" in found.text
    assert "make room" in found.action


def test_a_clock_before_this_software_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(1970, 1, 1, 0, 5, tzinfo=tz)

    monkeypatch.setattr(machine, "datetime", Then)
    found = about(list(look(tmp_path, running=False)), "clock")
    assert (found.state, found.text[:10]) == ("bad", "1970-01-01")


def test_a_port_in_use_is_named_with_its_option_unless_the_stack_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = Ports.free()
    monkeypatch.setattr(machine, "_DEFAULT_PORTS", free)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, free.stratum_port))
        taken.listen()
        found = about(list(look(tmp_path, running=False)), "ports")
        assert found.state == "warning"
        assert f"{free.stratum_port} (--stratum-port)" in found.text
        assert "--free-ports" in found.action
        assert about(list(look(tmp_path, running=True)), "ports").state == "good"


def test_an_extra_that_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "EXTRAS", {"devnet": (("no_such_module",), "there is no node")})
    found = about(list(look(tmp_path, running=False)), "extra devnet")
    assert found.text == "no_such_module is not installed: there is no node"
    assert "pip install 'tbg-mining-data[devnet]'" in found.action


def test_a_python_that_the_devnet_has_no_wheel_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "NEWEST_PYTHON", (3, 10))
    found = about(list(look(tmp_path, running=False)), "Python")
    assert found.state == "warning"
    assert "py-bitcoinkernel" in found.text
