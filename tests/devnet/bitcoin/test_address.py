"""Addresses decode to the script that their BIP gives, and to nothing when they are wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.bitcoin.address import (
    AddressError,
    AddressKind,
    Network,
    decode_address,
    decode_address_for,
    encode_address,
)
from devnet.bitcoin.base58 import decode_base58check, encode_base58check
from devnet.bitcoin.bech32 import decode_segwit, encode_segwit

# Valid addresses and their scripts: the test vectors of BIP 350.
BIP350_VALID = {
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4": ("0014751e76e8199196d454941c45d1b3a323f1433bd6"),
    "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7": (
        "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262"
    ),
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y": (
        "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6"
    ),
    "BC1SW50QGDZ25J": "6002751e",
    "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs": "5210751e76e8199196d454941c45d1b3a323",
    "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy": (
        "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433"
    ),
    "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c": (
        "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433"
    ),
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0": (
        "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    ),
}

# Invalid ones of the same BIP, each with a word of the reason that we must give.
BIP350_INVALID = {
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd": "Bech32m",
    "tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf": "Bech32m",
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL": "Bech32m",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh": "Bech32",
    "tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47": "Bech32",
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4": "alphabet",
    "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R": "version 17",
    "bc1pw5dgrnzv": "2 to 40 bytes",
    "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P": "20 or 32 bytes",
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq": "mixed",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf": "padding",
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j": "padding",
    "bc1gmk9yu": "version",
}


@pytest.mark.parametrize(("text", "script"), BIP350_VALID.items())
def test_valid_addresses_of_bip_350_give_their_script(text: str, script: str) -> None:
    address = decode_address(text)

    assert address.script_pubkey.hex() == script
    assert address.text == text.lower()
    network = Network.MAIN if Network.MAIN in address.networks else Network.SIGNET
    assert encode_address(address.script_pubkey, network) == text.lower()


@pytest.mark.parametrize(("text", "reason"), BIP350_INVALID.items())
def test_invalid_addresses_of_bip_350_are_refused_with_their_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        decode_address(text)


@pytest.mark.parametrize(
    ("text", "kind", "script", "networks"),
    [
        (  # the output of the genesis block as an address
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            AddressKind.P2PKH,
            "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac",
            {Network.MAIN},
        ),
        (
            "3P14159f73E4gFr7JterCCQh9QjiTjiZrG",
            AddressKind.P2SH,
            "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87",
            {Network.MAIN},
        ),
        (
            "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
            AddressKind.P2PKH,
            "76a914243f1394f44554f4ce3fd68649c19adc483ce92488ac",
            {Network.TESTNET, Network.TESTNET4, Network.SIGNET, Network.REGTEST},
        ),
        (
            "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc",
            AddressKind.P2SH,
            "a9144e9f39ca4688ff102128ea4ccda34105324305b087",
            {Network.TESTNET, Network.TESTNET4, Network.SIGNET, Network.REGTEST},
        ),
    ],
)
def test_base58_addresses_give_their_script_and_networks(
    text: str, kind: AddressKind, script: str, networks: set[Network]
) -> None:
    address = decode_address(text)

    assert (address.kind, address.script_pubkey.hex()) == (kind, script)
    assert address.networks == networks
    for network in networks:
        assert encode_address(address.script_pubkey, network) == text


def test_a_mainnet_address_on_regtest_is_recognised_as_one() -> None:
    with pytest.raises(AddressError, match="an address of main, not of regtest"):
        decode_address_for("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", Network.REGTEST)


def test_a_signet_address_is_no_regtest_address_but_a_testnet_one() -> None:
    text = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"

    assert (
        decode_address_for(text, Network.SIGNET).kind
        is decode_address_for(text, Network.TESTNET4).kind
        is AddressKind.P2WPKH
    )
    with pytest.raises(AddressError, match="signet or test or testnet4, not of regtest"):
        decode_address_for(text, Network.REGTEST)


@given(
    version=st.integers(0, 16),
    program=st.binary(min_size=2, max_size=40),
    network=st.sampled_from(Network),
)
def test_every_witness_program_survives_encoding_and_decoding(
    version: int, program: bytes, network: Network
) -> None:
    if version == 0:
        program = program[:20].ljust(20, b"\x07")
    prefix = {Network.MAIN: "bc", Network.REGTEST: "bcrt"}.get(network, "tb")

    text = encode_segwit(prefix, version, program)

    assert decode_segwit(text) == (prefix, version, program)
    address = decode_address_for(text, network)
    assert encode_address(address.script_pubkey, network) == text


@given(position=st.integers(5, 43), replacement=st.sampled_from("qpzry9x8gf2tvdw0s3jn"))
def test_one_changed_character_never_decodes(position: int, replacement: str) -> None:
    good = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    decode_address(good)
    bad = good[:position] + replacement + good[position + 1 :]

    if bad != good:
        with pytest.raises(AddressError):
            decode_address(bad)


@given(payload=st.binary(min_size=1, max_size=60))
def test_base58check_keeps_every_payload_with_its_leading_zeros(payload: bytes) -> None:
    assert decode_base58check(encode_base58check(payload)) == payload


@given(text=st.text(max_size=120) | st.from_regex(r"(bc|tb|bcrt)1[a-z0-9]{0,90}"))
def test_arbitrary_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        address = decode_address(text)
    except AddressError:
        return
    assert address.script_pubkey


@pytest.mark.parametrize("script", ["", "6a", "51", "6a0401020304", "0003010203"])
def test_a_script_without_an_address_is_refused(script: str) -> None:
    with pytest.raises(AddressError):
        encode_address(bytes.fromhex(script), Network.REGTEST)
