"""The apps for Umbrel and StartOS: by published fields, and about options that exist."""

import re
from typing import Any

import yaml
from click.testing import CliRunner

from tbg.cli import main
from tests.processes import ROOT

STORE = ROOT / "deploy/umbrel"
# umbrel-app.yml of the app framework: https://github.com/getumbrel/umbrel-apps
FIELDS = {
    "manifestVersion": int,
    "id": str,
    "category": str,
    "name": str,
    "version": str,
    "tagline": str,
    "description": str,
    "releaseNotes": str,
    "developer": str,
    "website": str,
    "dependencies": list,
    "repo": str,
    "support": str,
    "port": int,
    "gallery": list,
    "path": str,
    "defaultUsername": str,
    "defaultPassword": str,
    "submitter": str,
    "submission": str,
}
CATEGORIES = {"ai", "automation", "bitcoin", "developer", "files", "finance", "media", "networking"}


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((STORE / name).read_text("utf-8"))
    return found


def test_the_manifest_has_every_field_in_its_type() -> None:
    app = loaded("tbg-mining/umbrel-app.yml")
    assert {name: type(value) for name, value in app.items()} == FIELDS
    assert app["category"] in CATEGORIES
    assert re.fullmatch(r"[a-z-]{1,64}", app["id"])
    # An app of a community's store begins with the name of the store.
    assert app["id"].startswith(f"{loaded('umbrel-app-store.yml')['id']}-")
    assert len(app["tagline"]) <= 50
    assert not app["tagline"].endswith(".")
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{app["version"]}"' in project
    assert f'Homepage = "{app["repo"]}"' in project


def test_the_proxy_finds_the_server_and_the_data_outlives_it() -> None:
    app = loaded("tbg-mining/umbrel-app.yml")
    services = loaded("tbg-mining/docker-compose.yml")["services"]
    server = services["server"]
    assert services["app_proxy"]["environment"] == {
        "APP_HOST": f"{app['id']}_server_1",
        "APP_PORT": 8100,
    }
    assert server["image"].endswith(f"/light:{app['version']}")
    assert server["user"] == "1000:1000"
    assert server["volumes"] == ["${APP_DATA_DIR}/data:/data"]
    assert "--state=/data/state" in server["command"]
    assert str(app["port"]) not in str(server["ports"])
    exported = (STORE / "tbg-mining/exports.sh").read_text()
    assert f'"{server["ports"][0].split(":")[0]}"' in exported


def test_its_command_exists() -> None:
    [_, *words] = loaded("tbg-mining/docker-compose.yml")["services"]["server"]["command"]
    help_text = CliRunner().invoke(main, ["up", "--help"]).output
    for word in words[1:]:
        assert word.split("=")[0] in help_text


def test_startos_runs_the_same_as_umbrel() -> None:
    [_, *words] = loaded("tbg-mining/docker-compose.yml")["services"]["server"]["command"]
    package = ROOT / "deploy/startos/startos"
    main_ts = (package / "main.ts").read_text()
    assert [word for word in words if f"'{word}'" not in main_ts] == []
    app = loaded("tbg-mining/umbrel-app.yml")
    manifest = (package / "manifest.ts").read_text()
    for value in (app["id"], app["name"], app["tagline"], f"mining-data/light:{app['version']}"):
        assert value in manifest
    assert f"version: '{app['version']}:0'" in (package / "versions.ts").read_text()
    ports = (package / "interfaces.ts").read_text()
    assert "apiPort = 8100" in ports
    assert "stratumPort = 3333" in ports


def test_the_release_makes_its_image_from_a_user_that_the_image_has() -> None:
    release = (ROOT / ".github/workflows/release.yml").read_text()
    assert "image: [tbg, light, ckpool]" in release
    assert 'EXTRAS="batch devnet serve embedded"' in release
    dockerfile = (ROOT / "images/tbg/Dockerfile").read_text()
    assert "useradd --uid 1000 " in dockerfile
