"""What the compose file sets is what the code reads, and the reverse."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from ingest.settings import ReceiverSettings, WriterSettings
from tbg_dagster.resources import (
    Archive,
    BitcoinNode,
    Database,
    RedisServer,
    Thresholds,
)
from tbg_dagster.resources.environment import variable_of
from tbg_notify.settings import NotifierSettings
from tbg_serve.settings import ServeSettings
from tests.compose.files import SERVICES, Setting, example, passed_through, variables
from tests.processes import ROOT

# A field that a container has no use for: the node's cookie is on another one.
NOT_IN_COMPOSE = {"BITCOIN_RPC_COOKIE_FILE"}


def environment(service: str) -> set[str]:
    return set(SERVICES[service].get("environment", {}))


def names_in(*sources: Path) -> set[str]:
    """Names of variables in a text: in capitals and quotes, or of a @NAME@."""
    text = "\n".join(source.read_text("utf-8") for source in sources)
    return set(re.findall(r"[\"'@{ ]([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b", text))


@pytest.mark.parametrize(
    ("service", "settings"),
    [
        ("ingest-receiver", ReceiverSettings),
        ("ingest-writer", WriterSettings),
        ("notifier", NotifierSettings),
        ("serve", ServeSettings),
    ],
)
def test_a_stage_gets_exactly_its_settings(service: str, settings: type[BaseSettings]) -> None:
    wanted = {name.upper() for name in settings.model_fields}
    assert environment(service) == wanted - NOT_IN_COMPOSE


def test_the_code_location_gets_exactly_its_settings() -> None:
    wanted = {"DAGSTER_HOME", "DAGSTER_PG_URL", "TBG_FIRST_WEEK"}
    for prefix, resource in (
        ("DATABASE_", Database),
        ("REDIS_", RedisServer),
        ("BITCOIN_RPC_", BitcoinNode),
        ("ARCHIVE_", Archive),
        ("TBG_", Thresholds),
    ):
        definitions = (ROOT / "tbg_dagster/definitions.py").read_text("utf-8")
        assert f'from_environment({resource.__name__}, "{prefix}")' in definitions
        wanted |= {variable_of(resource, name, prefix) for name in resource.model_fields}
    assert environment("dagster-code") == wanted - NOT_IN_COMPOSE
    assert "TBG_FIRST_WEEK" in (ROOT / "tbg_dagster/partitions.py").read_text("utf-8")


def test_dagsters_own_settings_are_those_of_its_instance() -> None:
    instance = (ROOT / "tbg_dagster/instance/dagster.yaml").read_text("utf-8")
    asked = set(re.findall(r"env: (\w+)", instance))
    for service in ("dagster-webserver", "dagster-daemon"):
        assert environment(service) == asked | {"DAGSTER_HOME"}


@pytest.mark.parametrize("pool", ["ckpool", "ckpool-regtest"])
def test_ckpool_gets_exactly_its_settings(pool: str) -> None:
    header = (ROOT / "ckpool/src/tbg_settings.h").read_text("utf-8")
    configuration = ROOT / "ckpool/config" / Path(SERVICES[pool]["environment"]["CKPOOL_CONF"]).name
    asked = set(re.findall(r"^ \*   (TBG_EVENTS_\w+)", header, re.MULTILINE))
    asked |= set(re.findall(r"@(\w+)@", configuration.read_text("utf-8")))
    asked |= {"TBG_PROXIES"}  # tbg_proxy.h
    assert len(asked) == 10
    assert environment(pool) == asked | {"CKPOOL_CONF"}
    assert "CKPOOL_CONF" in (ROOT / "ckpool/image/entrypoint").read_text("utf-8")


@pytest.mark.parametrize(
    ("service", "sources"),
    [
        ("devnet-node", ["devnet/node/cli.py", "devnet/log_options.py"]),
        ("devnet-pool", ["devnet/pool/cli.py", "devnet/log_options.py"]),
        ("miner", ["devnet/miner/cli.py", "devnet/log_options.py"]),
        ("migrate", ["tbg/migrate.py"]),
        ("bitcoin-signet", ["bitcoin-node/entrypoint.sh"]),
        ("bitcoin-regtest", ["bitcoin-node/entrypoint.sh"]),
    ],
)
def test_every_variable_of_a_service_is_one_that_its_program_reads(
    service: str, sources: list[str]
) -> None:
    assert environment(service)
    assert environment(service) <= names_in(*(ROOT / source for source in sources))


def test_what_can_be_set_in_env_is_what_the_compose_file_takes() -> None:
    listed = example()
    taken = {variable.name for variable in variables()} | passed_through()
    # Read by docker compose itself.
    assert set(listed) == taken | {"COMPOSE_PROFILES"}


def test_the_example_shows_the_defaults_of_the_compose_file() -> None:
    listed = example()
    for variable in variables():
        setting = listed[variable.name]
        if variable.required:
            assert setting == Setting("", secret=True, off=False), variable.name
        else:
            assert setting == Setting(variable.default, secret=False, off=True), variable.name


def test_the_example_shows_the_defaults_of_the_code() -> None:
    listed = example()
    known: dict[str, object] = {}
    for settings in (ReceiverSettings, WriterSettings, ServeSettings):
        known |= {name.upper(): field.default for name, field in settings.model_fields.items()}
    for prefix, resource in (
        ("BITCOIN_RPC_", BitcoinNode),
        ("ARCHIVE_", Archive),
        ("TBG_", Thresholds),
    ):
        known |= {
            f"{prefix}{name.upper()}": field.default
            for name, field in resource.model_fields.items()
        }
    compared = passed_through() & known.keys()
    assert len(compared) > 25
    for name in compared:
        default = known[name]
        assert listed[name].value == ("" if default is None else str(default)), name


def test_sockets_and_limits_of_the_settings_hold() -> None:
    receiver = SERVICES["ingest-receiver"]["environment"]
    ReceiverSettings.load(
        redis_url="redis://redis",
        socket_path=receiver["SOCKET_PATH"],
        socket_mode=receiver["SOCKET_MODE"],
    )
