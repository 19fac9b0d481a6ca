"""docker-compose.yml says what the project has promised, and what it names exists."""

import fnmatch
import ipaddress
import re
from pathlib import Path

import pytest

from tests.compose.files import (
    COMPOSE,
    COMPOSE_TEXT,
    SERVICES,
    binds,
    builds,
    instructions,
    variables,
)
from tests.processes import ROOT

ONE_SHOT = {"migrate", "receipts", "dagster-migrate"}
LASTING = sorted(SERVICES.keys() - ONE_SHOT)
POOLS = ("ckpool", "ckpool-regtest", "devnet-pool")
NETWORKS = ("signet", "regtest", "devnet")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*")


def from_images(dockerfile: Path) -> set[str]:
    """Images that a Dockerfile begins with, those of its own stages left out."""
    stages: set[str] = {"scratch"}
    arguments: dict[str, str] = {}
    found: set[str] = set()
    for word, rest in instructions(dockerfile):
        if word == "ARG" and "=" in rest:
            name, _, value = rest.partition("=")
            arguments[name] = value.strip('"')
        if word == "FROM":
            image, *name_of_stage = re.split(r"\s+[Aa][Ss]\s+", rest)
            image = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], image)
            if image not in stages:
                found.add(image)
            stages.update(name_of_stage)
    return found


def default(text: str) -> str:
    """What ``${NAME:-default}`` is where nobody sets it."""
    (found,) = re.findall(r"^\$\{\w+:-(.+)\}$", text)
    return str(found)


def is_ignored(path: Path, context: Path) -> bool:
    """Whether the build would not be sent this path, as .dockerignore has it."""
    ignore = context / ".dockerignore"
    if not ignore.exists():
        return False
    relative = path.relative_to(context).as_posix()
    candidates = [relative, *(parent.as_posix() for parent in Path(relative).parents)]
    ignored = False
    for line in ignore.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        if any(fnmatch.fnmatch(candidate, pattern) for candidate in candidates):
            ignored = not line.startswith("!")
    return ignored


def test_every_image_is_pinned_or_built_here() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            assert service["image"].endswith(":local}"), name
        else:
            assert PINNED.fullmatch(service["image"]), f"{name}: {service['image']}"


@pytest.mark.parametrize("dockerfile", [path for _, path in builds()], ids=str)
def test_every_base_image_is_pinned(dockerfile: Path) -> None:
    images = from_images(dockerfile)
    assert images
    assert [image for image in images if not PINNED.fullmatch(image)] == []


def test_the_python_image_has_the_oldest_python_of_the_project() -> None:
    wanted = re.search(
        r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text("utf-8")
    )
    assert wanted
    (image,) = from_images(ROOT / "images/tbg/Dockerfile")
    assert image.startswith(f"python:{wanted[1]}.")
    assert f"/python{wanted[1]}/" in (ROOT / "images/tbg/Dockerfile").read_text("utf-8")


@pytest.mark.parametrize(("context", "dockerfile"), builds().keys(), ids=str)
def test_what_a_build_copies_exists_and_is_sent_to_it(context: Path, dockerfile: Path) -> None:
    assert dockerfile.is_file()
    copied = []
    for word, rest in instructions(dockerfile):
        if word not in ("COPY", "ADD") or "--from=" in rest:
            continue
        *sources, _ = [part for part in rest.split() if not part.startswith("--")]
        copied += sources
    assert copied
    for source in copied:
        assert (context / source).exists(), source
        assert not is_ignored(context / source, context), f"{source} is in .dockerignore"


def test_the_build_is_not_sent_secrets_and_state() -> None:
    for name in (".env", ".tbg", ".git", "tests"):
        assert is_ignored(ROOT / name, ROOT), name


def test_every_package_of_the_project_is_in_the_image() -> None:
    copied = (ROOT / "images/tbg/Dockerfile").read_text("utf-8")
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages
    for package in packages:
        assert f"COPY {package} {package}\n" in copied


def test_what_is_mounted_from_the_repository_exists() -> None:
    mounted = [(name, *bind) for name, service in SERVICES.items() for bind in binds(service)]
    assert mounted
    for name, source, target in mounted:
        assert source.exists(), f"{name}: {source}"
        if target.startswith("/usr/local/bin/"):
            assert source.stat().st_mode & 0o111, f"{source} is not executable"


def test_no_secret_is_in_the_file() -> None:
    secrets = [variable for variable in variables() if "PASSWORD" in variable.name]
    assert len({variable.name for variable in secrets}) == 7
    assert all(variable.required for variable in secrets), "a secret has a default"
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if value is not None and re.search("PASSWORD|AUTH", key):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name}: {key}"
            # user:password@host
            for password in re.findall(r"://[^/@]*?:([^/]*?)@", str(value)):
                assert password.startswith("${"), f"{name}: {key}"
        assert "PASSWORD:" not in str(service.get("command")), name


def test_only_stratum_listens_on_all_interfaces() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            if port.startswith("127.0.0.1:"):
                continue
            if name == "stratum-tls":
                assert port == "${STRATUM_TLS_PORT:-3334}:3334"
                continue
            assert name in POOLS, f"{name} publishes {port}"
            assert port == "${STRATUM_PORT:-3333}:3333"


@pytest.mark.parametrize("name", LASTING)
def test_what_keeps_running_is_checked_bounded_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} <= service["healthcheck"].keys()
    assert service["restart"] == "unless-stopped"
    assert service["init"] is True
    assert "stop_grace_period" in service
    assert "mem_limit" in service
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert "no-new-privileges:true" in service["security_opt"]


def test_dependencies_wait_for_what_can_come_true() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if other in ONE_SHOT:
                assert how == {"condition": "service_completed_successfully"}, name
            else:
                assert how == {"condition": "service_healthy"}, name
                assert "healthcheck" in SERVICES[other]
            # A service of another profile would not be started with it.
            assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", []))


def test_the_database_is_stopped_after_everything_that_uses_it() -> None:
    # By a dependency of its own: one through migrate, which has ended, counts for nothing.
    users = [
        name
        for name, service in SERVICES.items()
        if any("@timescaledb:" in str(value) for value in service.get("environment", {}).values())
    ]
    assert len(users) == 9
    assert [name for name in users if "timescaledb" not in SERVICES[name]["depends_on"]] == []


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_starts_after_the_socket_and_can_only_write_to_it(pool: str) -> None:
    service = SERVICES[pool]
    assert "ingest-receiver" in service["depends_on"]
    named = [volume for volume in service["volumes"] if isinstance(volume, dict)]
    (socket,) = (volume for volume in named if volume["source"] != "boots")
    assert (socket["source"], socket["target"]) == ("events", "/run/tbg")
    assert socket["read_only"] is True
    assert socket["volume"] == {"nocopy": True}
    environment = service["environment"]
    path = environment.get("TBG_EVENTS_SOCKET") or environment["SOCKET_PATH"]
    assert (
        path == SERVICES["ingest-receiver"]["environment"]["SOCKET_PATH"] == "/run/tbg/events.sock"
    )


def test_the_pools_are_in_the_group_of_the_socket() -> None:
    dockerfile = (ROOT / "images/tbg/Dockerfile").read_text("utf-8")
    assert "groupadd --gid 10100 events" in dockerfile
    assert re.search(r"useradd .*--groups events .*engine\b", dockerfile)
    assert re.search(r"install -d -o tbg -g events -m 750 /run/tbg", dockerfile)
    assert SERVICES["ingest-receiver"]["environment"]["SOCKET_GROUP"] == "events"
    assert SERVICES["devnet-pool"]["user"] == "engine"
    for pool in ("ckpool", "ckpool-regtest"):
        assert SERVICES[pool]["group_add"] == ["10100"]


def test_pools_reach_neither_redis_nor_the_database() -> None:
    for pool in POOLS:
        assert set(SERVICES[pool]["networks"]) == {"mining", "tls"}
    for store in ("redis", "timescaledb"):
        assert SERVICES[store]["networks"] == ["data"]


def test_a_killed_ckpools_counters_stay_while_it_starts_again() -> None:
    # In memory, so that no thread of the pool waits for a disk; and held by another container,
    # as the last one to leave takes them along.
    options = COMPOSE["volumes"]["boots"]["driver_opts"]
    assert options["type"] == "tmpfs"
    assert "uid=10333" in options["o"]
    users = {
        name: volume
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if isinstance(volume, dict) and volume["source"] == "boots"
    }
    assert users.keys() == {"ckpool", "ckpool-regtest", "ingest-receiver"}
    assert users["ingest-receiver"]["read_only"] is True
    for pool in ("ckpool", "ckpool-regtest"):
        assert users[pool]["target"] == "/dev/shm"  # noqa: S108  where the module looks


def test_pools_believe_the_one_address_that_nothing_but_the_tls_proxy_can_have() -> None:
    subnet, dynamic, proxy = (
        default(text)
        for text in (
            COMPOSE["networks"]["tls"]["ipam"]["config"][0]["subnet"],
            COMPOSE["networks"]["tls"]["ipam"]["config"][0]["ip_range"],
            SERVICES["stratum-tls"]["networks"]["tls"]["ipv4_address"],
        )
    )
    address, given = ipaddress.ip_address(proxy), ipaddress.ip_network(dynamic)
    assert address in ipaddress.ip_network(subnet)
    assert given.subnet_of(ipaddress.ip_network(subnet))  # type: ignore[arg-type]
    assert address not in given
    assert given.num_addresses > len(POOLS)
    for pool in POOLS:
        environment = SERVICES[pool]["environment"]
        believed = environment.get("TBG_PROXIES") or environment["POOL_PROXIES"]
        assert default(believed) == proxy
        assert "pool" in SERVICES[pool]["networks"]["tls"]["aliases"]
    assert SERVICES["stratum-tls"]["environment"]["POOL_HOST"] == "pool"


def test_the_receiver_raises_the_limit_of_the_namespace_that_it_binds_in() -> None:
    receiver = SERVICES["ingest-receiver"]
    assert receiver["sysctls"]["net.unix.max_dgram_qlen"] == receiver["environment"]["QUEUE_LENGTH"]


@pytest.mark.parametrize("network", NETWORKS)
def test_each_network_has_one_node_and_one_pool_under_the_common_names(network: str) -> None:
    here = [service for service in SERVICES.values() if network in service.get("profiles", [])]
    aliases = [alias for service in here for alias in service["networks"]["mining"]["aliases"]]
    assert sorted(aliases) == ["bitcoin-node", "pool"]


def test_nothing_writes_to_a_container_that_could_be_read_only() -> None:
    ours = [name for name, service in SERVICES.items() if str(service["image"]).startswith("${")]
    assert len(ours) >= 12
    for name in ours:
        assert SERVICES[name]["read_only"] is True, name
        assert SERVICES[name]["cap_drop"] == ["ALL"], name


def test_every_volume_and_network_is_declared_and_used() -> None:
    used: set[str] = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if not source.startswith("./"):
                used.add(source)
    assert used == set(COMPOSE["volumes"])
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(
        COMPOSE["networks"]
    )


def test_redis_keeps_everything_and_evicts_nothing() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    # On the standard input: no process list shows the password.
    assert re.search(r'- <<END\s+requirepass "\$\$REDISCLI_AUTH"', command)


def test_the_page_names_every_profile() -> None:
    page = (ROOT / "docs/compose.md").read_text("utf-8")
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert profiles == set(
        re.findall(r"^\| `([a-z]+)` \| \S", page, re.MULTILINE)
    ) - SERVICES.keys() | {"miner", "receipts"}
    for published in re.findall(r"127\.0\.0\.1:\$\{\w+:-(\d+)\}", COMPOSE_TEXT):
        assert f"127.0.0.1:{published}" in page
