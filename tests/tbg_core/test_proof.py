"""A share is checked by its proof alone: what is forged fails, and says what fails."""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.bitcoin.address import AddressError, Network, decode_address, encode_address
from devnet.bitcoin.script import (
    pay_to_pubkey_hash,
    pay_to_script_hash,
    witness_program_script,
)
from devnet.bitcoin.transaction import Transaction, TxOutput
from tbg_core.proof import Claim, Fact, Proof, ProofError, Tip, address_of, holds, verify
from tests.clock import moment_of
from tests.forged import DEFORMED, FORGERIES, OTHER_USER, Change, forged, genuine

PREV = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0faa"
FOUND = moment_of(genuine()["timestamp"])
MONDAY = datetime.fromisoformat("2026-11-16T00:00:00+00:00")
TIPS = {PREV: Tip(868000, FOUND - timedelta(minutes=5), FOUND + timedelta(minutes=5))}


def claim_of(data: dict[str, Any], **changes: Any) -> Claim:
    claim = Claim(data["hash"], data["user"], data["new_best_diff"], FOUND, MONDAY)
    return replace(claim, **changes)


def judged(data: dict[str, Any], **changes: Any) -> dict[str, Fact]:
    facts = verify(Proof.read(data["proof"]), claim_of(data, **changes), TIPS)
    return {fact.name: fact for fact in facts}


def failing(facts: dict[str, Fact]) -> set[str]:
    return {name for name, fact in facts.items() if fact.holds is False}


def test_everything_of_a_genuine_best_holds() -> None:
    data = genuine()["data"]
    facts = judged(data, tag="alice")
    assert list(facts) == [
        "hash",
        "difficulty",
        "merkle root",
        "payee",
        "signature",
        "time",
        "previous block",
    ]
    assert all(fact.holds for fact in facts.values())
    assert facts["signature"].text == "the coinbase holds /TheBitcoinGame/alice/"
    assert Proof.read(data["proof"]).dump() == data["proof"]


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_proof_fails_by_what_was_forged(name: str) -> None:
    change, facts = FORGERIES[name]
    assert failing(judged(forged(change))) == facts


@pytest.mark.parametrize("change", DEFORMED.values(), ids=DEFORMED)
def test_what_is_no_proof_by_its_form_is_refused(change: Change) -> None:
    with pytest.raises(ProofError):
        Proof.read(forged(change)["proof"])


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"time": FOUND + timedelta(hours=3)}, "time"),
        ({"time": FOUND - timedelta(hours=3)}, "time"),
        ({"counted": MONDAY - timedelta(weeks=1)}, "time"),
        ({"signature": "/AnotherPool/"}, "signature"),
        ({"signature": "/TheBitcoin/"}, "signature"),
        ({"tag": "bob"}, "signature"),
        ({"tag": ""}, "signature"),
    ],
)
def test_a_claim_that_its_proof_does_not_bear_out_fails(changes: dict[str, Any], fact: str) -> None:
    assert failing(judged(genuine()["data"], **changes)) == {fact}


def test_a_best_of_another_week_fails_by_its_time_and_its_block() -> None:
    facts = judged(genuine()["data"], time=None, week=MONDAY - timedelta(weeks=1))
    assert failing(facts) == {"time", "previous block"}


@pytest.mark.parametrize("signature", ["/TheBitcoinGame", "/TheBitcoinGame/", "/TheBit"])
def test_a_signature_may_be_given_by_its_beginning(signature: str) -> None:
    assert judged(genuine()["data"], signature=signature)["signature"].holds


@pytest.mark.parametrize(
    ("seen", "replaced", "plausible"),
    [
        (FOUND, None, True),
        (MONDAY - timedelta(days=3), MONDAY + timedelta(minutes=1), True),
        (MONDAY - timedelta(days=3), MONDAY - timedelta(hours=3), False),
        (MONDAY + timedelta(days=7, hours=3), None, False),
    ],
)
def test_the_previous_block_was_the_tip_in_the_week(
    seen: datetime, replaced: datetime | None, plausible: bool
) -> None:
    data = genuine()["data"]
    proof = Proof.read(data["proof"])
    *_, fact = verify(proof, claim_of(data), {PREV: Tip(1, seen, replaced)})
    assert fact.holds is plausible


def test_a_block_that_the_pool_never_saw_fails_and_unknown_times_are_not_checked() -> None:
    data = genuine()["data"]
    proof = Proof.read(data["proof"])
    unseen, unknown = verify(proof, claim_of(data), {}), verify(proof, claim_of(data), None)
    assert (unseen[-1].holds, unknown[-1].holds) == (False, None)
    assert not holds(unseen, unchecked=True)
    assert (holds(unknown, unchecked=True), holds(unknown)) == (True, False)


def paying(outputs: list[tuple[int, str]]) -> Fact:
    """What is said of the payee where the coinbase has other outputs."""
    data = genuine()["data"]
    proof = Proof.read(data["proof"])
    coinbase = Transaction.unpack(proof.coinbase)
    paid = tuple(TxOutput(value, decode_address(user).script_pubkey) for value, user in outputs)
    changed = replace(proof, coinbase=replace(coinbase, outputs=paid).pack(witness=False))
    return next(fact for fact in verify(changed, claim_of(data), TIPS) if fact.name == "payee")


def test_only_the_largest_output_has_found_the_share() -> None:
    user = genuine()["data"]["user"]
    assert paying([(98, user), (2, OTHER_USER)]).holds
    assert not paying([(2, user), (98, OTHER_USER)]).holds
    assert not paying([(50, user), (50, OTHER_USER)]).holds
    assert not paying([(0, user)]).holds
    assert not paying([]).holds


def test_an_inner_node_of_the_tree_is_no_coinbase() -> None:
    """Two hashes of a level, 64 bytes, hash to their parent as a transaction would."""
    data = genuine()["data"]
    proof = Proof.read(data["proof"])
    node = hashlib.sha256(hashlib.sha256(proof.coinbase).digest()).digest()
    inner = replace(proof, coinbase=node + proof.branch[0], branch=proof.branch[1:])
    assert inner.root == proof.root
    facts = {fact.name: fact.holds for fact in verify(inner, claim_of(data), TIPS)}
    assert facts["merkle root"]
    assert facts["coinbase"] is False


scripts = st.one_of(
    st.builds(pay_to_pubkey_hash, st.binary(min_size=20, max_size=20)),
    st.builds(pay_to_script_hash, st.binary(min_size=20, max_size=20)),
    st.builds(witness_program_script, st.integers(1, 16), st.binary(min_size=2, max_size=40)),
    st.builds(witness_program_script, st.just(0), st.sampled_from([b"\x01" * 20, b"\x02" * 32])),
)


@given(scripts, st.sampled_from(Network))
def test_addresses_are_those_that_the_pool_pays(script: bytes, network: Network) -> None:
    address = encode_address(script, network)
    assert address_of(script, address) == address


@given(st.binary(max_size=45), st.sampled_from(["bcrt1q", "bc1q", "tb1p", "1A", "3A", "mA", "2A"]))
def test_no_script_makes_the_addresses_fail(script: bytes, like: str) -> None:
    address = address_of(script, like)
    if address is not None:
        try:
            assert decode_address(address).script_pubkey == script
        except AddressError:
            assert script[0] == 0  # version 0 with a length that nobody may spend


@given(st.binary(max_size=300), st.lists(st.binary(min_size=32, max_size=32), max_size=3))
def test_no_coinbase_makes_the_check_fail(coinbase: bytes, branch: list[bytes]) -> None:
    data = genuine()["data"]
    proof = replace(Proof.read(data["proof"]), coinbase=coinbase, branch=tuple(branch))
    assert not holds(verify(proof, claim_of(data), TIPS), unchecked=True)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.just("ab" * 32),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["header", "coinbase", "branch"]), inner)
        ),
        max_leaves=6,
    )
)
def test_no_json_raises_anything_but_a_proof_error(value: Any) -> None:
    with pytest.raises(ProofError):
        Proof.read(value)
