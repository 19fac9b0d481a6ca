"""User names and passwords, as people and their firmware write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from devnet.bitcoin.address import Network
from devnet.pool.identity import Options, identify, password_options, split_username
from tests.devnet.pool.harness import ALICE

CASES = json.loads((Path(__file__).parents[2] / "events/usernames.json").read_text("utf-8"))
BASE58 = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["username"])
def test_user_names_are_split_as_the_c_module_splits_them(case: dict[str, str]) -> None:
    assert split_username(case["username"]) == (case["user"], case["worker"])


@pytest.mark.parametrize(
    ("name", "worker"),
    [
        (f"{ALICE}_rig1", "rig1"),
        (f"{ALICE}/rig1", "rig1"),
        (f"{ALICE}+512", "512"),
        (f"{ALICE} ", ""),
        (f"{ALICE}\0", ""),
        (f"bitcoin:{ALICE}", ""),
        (f"BITCOIN:{ALICE.upper()}.Rig", "Rig"),
    ],
)
def test_every_way_to_write_an_address_is_the_same_user(name: str, worker: str) -> None:
    identity = identify(name, Network.REGTEST)
    assert (identity.user, identity.worker) == (ALICE, worker)


def test_a_base58_address_keeps_its_case() -> None:
    assert identify(f"bitcoin:{BASE58}_S21", Network.REGTEST).user == BASE58


@pytest.mark.parametrize(
    ("password", "options"),
    [
        ("x", Options()),
        ("tag=alice", Options("alice")),
        ("d=512", Options("", 512.0)),
        ("d=512,tag=bob", Options("bob", 512.0)),
        ("tag=bob;d=0.5", Options("bob", 0.5)),
        ("x  tag=bob\td=512\n", Options("bob", 512.0)),
        ("m=solo,d=512,stats,tag=bob,p=", Options("bob", 512.0)),
        ("d=lots,d=7,d=8", Options("", 7.0)),
        ("d=0,tag=" + "x" * 21, Options()),
        ("tag=a/b;notag=c;nod=5", Options()),
        ("d=0x200\0", Options("", 512.0)),
        (None, Options()),
        (5, Options()),
    ],
)
def test_a_password_may_hold_options_and_the_rest_is_ignored(
    password: Any, options: Options
) -> None:
    assert password_options(password) == options
