"""Hosts and ports: who listens agrees with who connects, in every file that names them."""

import json
import re
from urllib.parse import urlsplit

import pytest
import yaml

from tests.compose.files import SERVICES, settings_of
from tests.processes import ROOT

EVERYWHERE = "0.0.0.0"  # noqa: S104  inside a container; what is published is another matter
NODES = {
    "bitcoin-signet": "bitcoin-node/bitcoin-signet.conf",
    "bitcoin-regtest": "bitcoin-node/bitcoin-regtest.conf",
}


def option(service: str, name: str) -> str:
    command = SERVICES[service]["command"]
    return str(command[command.index(name) + 1])


def published(service: str) -> set[int]:
    """Ports inside the container that the machine can reach."""
    return {int(port.rpartition(":")[2]) for port in SERVICES[service].get("ports", [])}


def bound(service: str) -> set[int]:
    """RPC ports that a node listens on."""
    if service == "devnet-node":
        assert option(service, "--host") == EVERYWHERE
        return {int(option(service, "--port"))}
    values = settings_of(ROOT / NODES[service])["rpcbind"]
    assert all(value.startswith("0.0.0.0:") for value in values)
    return {int(value.rpartition(":")[2]) for value in values}


@pytest.mark.parametrize("node", [*NODES, "devnet-node"])
def test_batch_reaches_every_node_by_the_common_name_and_port(node: str) -> None:
    url = urlsplit(SERVICES["dagster-code"]["environment"]["BITCOIN_RPC_URL"])
    assert url.hostname in SERVICES[node]["networks"]["mining"]["aliases"]
    assert "mining" in SERVICES["dagster-code"]["networks"]
    assert url.port in bound(node)
    assert published(node) == {38332}


@pytest.mark.parametrize("pool", ["ckpool", "ckpool-regtest"])
def test_ckpool_finds_its_node(pool: str) -> None:
    name = SERVICES[pool]["environment"]["CKPOOL_CONF"].rpartition("/")[2]
    conf = json.loads((ROOT / "ckpool/config" / name).read_text("utf-8"))
    (node,) = (other for other in SERVICES[pool]["depends_on"] if other != "ingest-receiver")
    host, _, port = conf["btcd"][0]["url"].partition(":")
    assert host == node
    assert int(port) in bound(node)
    zmq = urlsplit(conf["zmqblock"])
    assert zmq.hostname == node
    assert settings_of(ROOT / NODES[node])["zmqpubhashblock"] == [f"tcp://0.0.0.0:{zmq.port}"]
    assert conf["serverurl"] == ["0.0.0.0:3333"]
    assert published(pool) == {3333}
    # Where the volume is, or the records of miners go with the container.
    assert conf["logdir"] in {
        volume.split(":")[1] for volume in SERVICES[pool]["volumes"] if isinstance(volume, str)
    }


def test_tls_finds_the_pool_and_is_where_the_compose_file_says() -> None:
    text = (ROOT / "images/stratum-tls/haproxy.cfg").read_text("utf-8")
    assert {int(port) for port in re.findall(r"(?m)^    bind :(\d+) ssl", text)} == published(
        "stratum-tls"
    )
    assert 'server pool "${POOL_HOST}:3333" send-proxy-v2' in text
    assert f":{3334:04X} " in " ".join(SERVICES["stratum-tls"]["healthcheck"]["test"])


def test_the_devnet_pool_finds_its_node_and_the_miner_finds_a_pool() -> None:
    url = urlsplit(option("devnet-pool", "--node-url"))
    assert url.hostname == "devnet-node"
    assert url.port in bound("devnet-node")
    assert published("devnet-pool") == {int(option("devnet-pool", "--port"))}
    stratum = urlsplit(option("miner", "--url"))
    for pool in ("ckpool", "ckpool-regtest", "devnet-pool"):
        assert stratum.hostname in SERVICES[pool]["networks"]["mining"]["aliases"]
        assert stratum.port in published(pool)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_urls_name_a_service_on_a_network_of_both(name: str) -> None:
    networks = set(SERVICES[name]["networks"])
    for key, value in SERVICES[name].get("environment", {}).items():
        if not key.endswith("_URL") or not value or value.startswith("${"):
            continue
        host = re.sub(r"\$\{[^}]*\}", "x", value)
        host_name = urlsplit(host).hostname
        if host_name == "bitcoin-node":
            continue
        assert host_name in SERVICES, key
        assert networks & set(SERVICES[host_name]["networks"]), key


@pytest.mark.parametrize(
    ("service", "variable"),
    [("ingest-receiver", "RECEIVER_METRICS_PORT"), ("ingest-writer", "WRITER_METRICS_PORT")],
)
def test_metrics_are_where_the_check_and_prometheus_look(service: str, variable: str) -> None:
    port = int(SERVICES[service]["environment"][variable])
    assert SERVICES[service]["environment"]["METRICS_HOST"] == EVERYWHERE
    assert published(service) == {port}
    assert f"http://127.0.0.1:{port}/readyz" in SERVICES[service]["healthcheck"]["test"]
    scraped = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text("utf-8"))
    targets = [
        target
        for job in scraped["scrape_configs"]
        for of in job["static_configs"]
        for target in of["targets"]
    ]
    assert f"{service}:{port}" in targets


def test_dagster_finds_the_code_location() -> None:
    workspace = yaml.safe_load((ROOT / "images/tbg/workspace.yaml").read_text("utf-8"))
    (location,) = workspace["load_from"]
    server = location["grpc_server"]
    assert server["host"] in SERVICES
    assert str(server["port"]) == option(server["host"], "--port")
    local = yaml.safe_load((ROOT / "workspace.yaml").read_text("utf-8"))["load_from"][0][
        "python_module"
    ]
    # The same location as without compose: its runs and schedules keep their identity.
    assert server["location_name"] == local["location_name"]
    assert option("dagster-code", "--module-name") == local["module_name"]
    assert option("dagster-code", "--attribute") == local["attribute"]
    for service in ("dagster-webserver", "dagster-daemon"):
        assert option(service, "--workspace") == "/opt/dagster/workspace.yaml"
    dockerfile = (ROOT / "images/tbg/Dockerfile").read_text("utf-8")
    assert re.search(
        r"COPY .*images/tbg/workspace\.yaml tbg_dagster/instance/dagster\.yaml /opt/dagster/",
        dockerfile,
    )
    assert published("dagster-webserver") == {int(option("dagster-webserver", "--port"))}


def test_grafana_finds_prometheus_and_its_dashboards() -> None:
    provisioning = ROOT / "monitoring/grafana/provisioning"
    source = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text("utf-8"))[
        "datasources"
    ][0]
    url = urlsplit(source["url"])
    assert url.hostname == "prometheus"
    assert published("prometheus") == {url.port}
    dashboards = yaml.safe_load((provisioning / "dashboards/dashboards.yml").read_text("utf-8"))
    path = dashboards["providers"][0]["options"]["path"]
    assert f"./monitoring/grafana/dashboards:{path}:ro" in SERVICES["grafana"]["volumes"]


@pytest.mark.parametrize("node", sorted(NODES))
def test_a_node_is_on_its_test_network_and_offers_what_pool_and_batch_need(node: str) -> None:
    settings = settings_of(ROOT / NODES[node])
    network = node.removeprefix("bitcoin-")
    assert settings[network] == ["1"]
    assert SERVICES[node]["command"] == [network]
    assert settings["server"] == settings["txindex"] == ["1"]
    assert settings["includeconf"] == ["/run/bitcoin/rpc.conf"]
    assert not {"rpcpassword", "rpcauth", "rpcuser"} & settings.keys()
    assert any(entry.startswith("/run/bitcoin:") for entry in SERVICES[node]["tmpfs"])


@pytest.mark.parametrize("name", ["ckpool-signet.conf", "ckpool-regtest.conf"])
def test_ckpools_configuration_has_the_keys_that_its_page_lists(name: str) -> None:
    page = (ROOT / "ckpool/README.md").read_text("utf-8")
    _, _, table = page.partition("\n| key | meaning |\n")
    rows = table.split("\n\n")[0].splitlines()
    documented = {key for row in rows for key in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1])}
    assert len(documented) >= 12
    conf = json.loads((ROOT / "ckpool/config" / name).read_text("utf-8"))
    assert set(conf) == documented
    assert {"url", "auth", "pass", "notify"} == set(conf["btcd"][0])
    assert len(conf["btcsig"].encode()) <= 38
