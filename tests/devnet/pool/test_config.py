"""The configuration is ckpool's file, with fractions; what is wrong in it is named."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from devnet import pool as pool_package
from devnet.pool.config import IGNORED, ConfigError, PoolConfig, listen_address
from devnet.pool.rejection import Rejection
from devnet.pool.works import REGTEST_BLOCK_DIFFICULTY

CKPOOL = {
    "btcd": [
        {"url": "localhost:8332", "auth": "user", "pass": "secret", "notify": True},
        {"url": "backup:8332", "auth": "user", "pass": "secret", "notify": False},
    ],
    "btcaddress": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
    "btcsig": "/mined by ck/",
    "blockpoll": 50,
    "donation": 0.5,
    "nonce1length": 4,
    "nonce2length": 8,
    "update_interval": 20,
    "version_mask": "00ffe000",
    "serverurl": ["127.0.0.1:3334", "192.168.1.100:3335"],
    "mindiff": 1,
    "startdiff": 42,
    "highdiff": 10000,
    "maxdiff": 0,
    "maxclients": 100,
    "logdir": "logs",
    "zmqblock": "tcp://127.0.0.1:28332",
}


def read(tmp_path: Path, values: Any, **options: Any) -> tuple[PoolConfig, list[str]]:
    path = tmp_path / "ckpool.conf"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return PoolConfig.read(path, options)


def test_a_ckpool_file_is_understood_without_a_warning(tmp_path: Path) -> None:
    config, warnings = read(tmp_path, CKPOOL)
    assert warnings == []
    assert [node.url for node in config.btcd] == ["http://localhost:8332", "http://backup:8332"]
    assert (config.btcd[0].auth, config.btcd[0].password) == ("user", "secret")
    assert config.version_mask == 0x00FFE000
    assert (config.mindiff, config.startdiff, config.maxdiff) == (1.0, 42.0, 0.0)
    assert config.btcsig == "/mined by ck/"
    assert (config.blockpoll, config.update_interval, config.maxclients) == (50, 20, 100)


def test_the_top_bits_of_a_version_are_never_rolled(tmp_path: Path) -> None:
    config, _ = read(tmp_path, {"version_mask": "ffffe000"})
    assert config.version_mask == 0x1FFFE000


def test_fractional_difficulties_are_ours(tmp_path: Path) -> None:
    config, _ = read(tmp_path, {"mindiff": 0.001, "startdiff": 0.5, "block_difficulty": 0.25})
    assert (config.mindiff, config.startdiff, config.block_difficulty) == (0.001, 0.5, 0.25)


def test_unknown_keys_are_warned_about_and_ignored(tmp_path: Path) -> None:
    _, warnings = read(tmp_path, CKPOOL | {"mindif": 3, "lastly": None})
    assert [warning.split("key ")[1] for warning in warnings] == [
        "'lastly' is unknown and ignored",
        "'mindif' is unknown and ignored",
    ]


def test_options_stand_in_place_of_the_file(tmp_path: Path) -> None:
    config, _ = read(tmp_path, CKPOOL, startdiff=7.5, btcsig=None)
    assert (config.startdiff, config.btcsig) == (7.5, "/mined by ck/")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"mindiff": 0}, "mindiff"),
        ({"startdiff": -1}, "startdiff"),
        ({"btcsig": "x" * 39}, "btcsig"),
        ({"btcsig": "grüße"}, "btcsig"),
        ({"version_mask": "xyz"}, "version_mask"),
        ({"nonce2length": 9}, "nonce2length"),
        ({"btcd": [{"url": 5}]}, "btcd.0.url"),
        ({"mindiff": 5, "maxdiff": 2}, "maxdiff is below mindiff"),
        ({"nonce1length": 2, "maxclients": 70_000}, "nonce1length is too short"),
        ("{", "cannot be read as JSON"),
        ("[]", "is not a JSON object"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, values: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        read(tmp_path, values)
    assert "ckpool.conf" in str(caught.value)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    config, _ = read(tmp_path, CKPOOL)
    assert "secret" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, {"btcd": [{"url": 5, "pass": "secret"}]})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("127.0.0.1:3334", ("127.0.0.1", 3334)),
        ("stratum+tcp://pool.example:4444", ("pool.example", 4444)),
        ("pool.example", ("pool.example", 3333)),
        ("[::1]:3335", ("::1", 3335)),
        (":3336", ("0.0.0.0", 3336)),  # noqa: S104 - what ckpool makes of it
    ],
)
def test_server_urls_are_read_as_ckpool_reads_them(url: str, address: tuple[str, int]) -> None:
    assert listen_address(url) == address


@pytest.mark.parametrize("url", ["a:b:c", "host:99999", "host:"])
def test_a_server_url_without_a_port_that_exists_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        listen_address(url)


def test_the_readme_lists_every_key_with_its_default() -> None:
    text = (Path(pool_package.__file__).parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(PoolConfig.model_fields)
    defaults = PoolConfig.read(None, {})[0]
    for name, shown in rows:
        value = getattr(defaults, name)
        if isinstance(value, float | int) and name != "version_mask":
            assert float(shown) == value, name
    assert f"{REGTEST_BLOCK_DIFFICULTY} on regtest" in text
    for key in IGNORED:
        assert f"`{key}`" in text


def test_the_readme_lists_every_rejection() -> None:
    text = (Path(pool_package.__file__).parent / "README.md").read_text("utf-8")
    for rejection in Rejection:
        assert f"| {rejection.code} | {rejection.text} | " in text
        assert rejection is Rejection.NOT_SUBSCRIBED or f"| {rejection.reason} |" in text
