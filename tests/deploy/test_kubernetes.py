"""The manifests fit Kubernetes' schemas, lock down what they start, and set what exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    return [
        document
        for name in ("cell.yaml", "pool.yaml")
        for document in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
    ]


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def pods() -> list[Manifest]:
    """The pod templates, each with its labels and its spec."""
    return [one["spec"]["template"] for one in manifests() if "template" in one["spec"]]


def containers() -> Iterator[Manifest]:
    for pod in pods():
        yield from pod["spec"]["containers"]


@pytest.mark.parametrize("manifest", manifests(), ids=named)
@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_a_manifest_fits_the_schema_of_its_kind(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_look_at_schemas_refuses_what_is_wrong() -> None:
    wrong = manifests()[0] | {"spec": {"ports": "many"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.34", strict=True)


@pytest.mark.parametrize("container", list(containers()), ids=lambda one: str(one["name"]))
def test_a_container_has_limits_and_no_rights_that_it_does_not_need(container: Manifest) -> None:
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if container["name"] != "migrate":  # it ends
        assert "livenessProbe" in container


@pytest.mark.parametrize("pod", pods(), ids=lambda one: str(one["metadata"]["labels"]["part"]))
def test_a_pod_is_not_root_and_has_no_account(pod: Manifest) -> None:
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_engine_and_receiver_meet_at_one_socket() -> None:
    [pod] = [one for one in pods() if one["metadata"]["labels"]["part"] == "cell"]
    found = {}
    for container in pod["spec"]["containers"]:
        variables = {item["name"]: item.get("value") for item in container["env"]}
        mounts = {item["mountPath"]: item["name"] for item in container["volumeMounts"]}
        socket = variables.get("SOCKET_PATH") or variables.get("TBG_EVENTS_SOCKET")
        found[container["name"]] = socket, mounts["/run/tbg"]
    assert found["receiver"] == found["engine"] == ("/run/tbg/events.sock", "events")


def test_every_variable_is_a_setting() -> None:
    """Of ours by docs/settings.md, of the engine by its own README."""
    ours = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/settings.md").read_text(), re.M))
    for container in containers():
        for variable in container["env"]:
            if container["name"] == "engine":
                assert variable["name"] in (ROOT / "docker-compose.yml").read_text()
            else:
                assert variable["name"] in ours, variable["name"]


def test_no_secret_stands_in_a_manifest() -> None:
    for container in containers():
        for variable in container["env"]:
            if re.search("URL|PASSWORD", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]


def test_every_pod_is_behind_the_policy_that_lets_nothing_in() -> None:
    policies = [one for one in manifests() if one["kind"] == "NetworkPolicy"]
    closed = [one for one in policies if not one["spec"].get("ingress")]
    assert [one["spec"]["podSelector"] for one in closed] == [{"matchLabels": {"app": "tbg"}}]
    assert all(pod["metadata"]["labels"]["app"] == "tbg" for pod in pods())


def test_dagsters_runs_are_pods_of_our_image() -> None:
    values = yaml.safe_load((FOLDER / "dagster-values.yaml").read_text("utf-8"))
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    [location] = values["dagster-user-deployments"]["deployments"]
    assert location["dagsterApiGrpcArgs"] == [
        "--module-name",
        "tbg_dagster.definitions",
        "--attribute",
        "defs",
    ]
