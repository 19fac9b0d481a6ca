"""``tbg init`` writes a .env that compose can use, and never takes anything away."""

import json
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from tbg.init import command
from tests.compose.files import example
from tests.processes import ROOT

SECRETS = {name for name, setting in example().items() if setting.secret}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text("utf-8"))
    return tmp_path


def init(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(command, ["--directory", str(folder), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def read(folder: Path) -> dict[str, str]:
    """The file as compose reads it: the last assignment of a name counts."""
    lines = (folder / ".env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_secret_is_random_and_only_the_owner_may_read_it(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    init(folder)
    values = read(folder)
    assert values.keys() >= SECRETS
    assert len({values[name] for name in SECRETS}) == len(SECRETS) == 7
    for name in SECRETS:
        # In URLs, in .env and in shells without any quoting.
        assert re.fullmatch(r"[A-Za-z0-9_-]{32}", values[name])
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    other = tmp_path_factory.mktemp("other")
    (other / ".env.example").write_text((ROOT / ".env.example").read_text("utf-8"))
    init(other)
    assert not {values[name] for name in SECRETS} & {read(other)[name] for name in SECRETS}


def test_no_secret_is_printed(folder: Path) -> None:
    output = init(folder) + init(folder, "--json")
    assert not [name for name in SECRETS if read(folder)[name] in output]


def test_again_it_changes_nothing(folder: Path) -> None:
    init(folder)
    before = (folder / ".env").read_bytes()
    assert "has everything already" in init(folder)
    assert (folder / ".env").read_bytes() == before


@pytest.mark.parametrize("network", ["signet", "regtest", "devnet"])
def test_the_network_is_the_profile(folder: Path, network: str) -> None:
    init(folder, "--network", network)
    assert read(folder)["COMPOSE_PROFILES"] == network


def test_signet_is_the_default_and_mainnet_is_none(folder: Path) -> None:
    init(folder)
    assert read(folder)["COMPOSE_PROFILES"] == "signet"
    refused = CliRunner().invoke(command, ["--directory", str(folder), "--network", "mainnet"])
    assert refused.exit_code == 2


def test_what_an_older_file_lacks_is_added_and_the_rest_stays(folder: Path) -> None:
    (folder / ".env").write_text(
        "# mine\nCOMPOSE_PROFILES=devnet,miner\nREDIS_PASSWORD=chosen\nDAGSTER_PASSWORD=\nLOG_LEVEL=DEBUG"
    )
    added = json.loads(init(folder, "--json"))
    values = read(folder)
    assert values["COMPOSE_PROFILES"] == "devnet,miner"
    assert values["REDIS_PASSWORD"] == "chosen"  # noqa: S105  made up
    assert values["LOG_LEVEL"] == "DEBUG"
    # An empty password is none.
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", values["DAGSTER_PASSWORD"])
    assert set(added["added"]) == SECRETS - {"REDIS_PASSWORD"} == set(added["secrets"])
    assert (folder / ".env").read_text().startswith("# mine\n")


def test_without_the_example_it_says_where_to_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--directory", str(tmp_path)])
    assert done.exit_code == 1
    assert "docker-compose.yml" in done.output
    assert not (tmp_path / ".env").exists()
