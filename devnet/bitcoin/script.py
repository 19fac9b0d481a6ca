"""The few scripts that a miner writes."""

OP_0 = 0x00
OP_PUSHDATA1 = 0x4C
OP_PUSHDATA2 = 0x4D
OP_1 = 0x51
OP_16 = 0x60
OP_RETURN = 0x6A

MAX_COINBASE_SCRIPT_SIG = 100
"""Consensus: the script of a coinbase input has 2 to 100 bytes."""


def push(data: bytes) -> bytes:
    """The opcodes that push ``data`` onto the stack.

    Raises:
        ValueError: there are more than 65,535 bytes.
    """
    size = len(data)
    if size < OP_PUSHDATA1:
        return bytes((size,)) + data
    if size <= 0xFF:
        return bytes((OP_PUSHDATA1, size)) + data
    if size <= 0xFFFF:
        return bytes((OP_PUSHDATA2,)) + size.to_bytes(2, "little") + data
    raise ValueError(f"a push takes at most 65535 bytes, got {size}")


def push_height(height: int) -> bytes:
    """The block height as the first item of a coinbase script (BIP 34).

    A minimally encoded script number: OP_0 to OP_16 for 0 to 16, else the shortest little-endian
    bytes whose top bit, the sign, is clear. Consensus compares the bytes: another encoding of the
    same number is ``bad-cb-height``.

    Raises:
        ValueError: the height is negative.
    """
    if height < 0:
        raise ValueError(f"a block height is not negative, got {height}")
    if height == 0:
        return bytes((OP_0,))
    if height <= 16:
        return bytes((OP_1 + height - 1,))
    return push(height.to_bytes(height.bit_length() // 8 + 1, "little"))


def witness_program_script(version: int, program: bytes) -> bytes:
    """The scriptPubKey that pays a witness program (BIP 141).

    Raises:
        ValueError: the version is not 0 to 16, or the program does not have 2 to 40 bytes.
    """
    if not 0 <= version <= 16 or not 2 <= len(program) <= 40:
        raise ValueError("a witness program has a version of 0 to 16 and 2 to 40 bytes")
    opcode = OP_0 if version == 0 else OP_1 + version - 1
    return bytes((opcode,)) + push(program)


def pay_to_pubkey_hash(key_hash: bytes) -> bytes:
    """DUP HASH160 <20 bytes> EQUALVERIFY CHECKSIG."""
    if len(key_hash) != 20:
        raise ValueError(f"a key hash has 20 bytes, got {len(key_hash)}")
    return b"\x76\xa9\x14" + key_hash + b"\x88\xac"


def pay_to_script_hash(script_hash: bytes) -> bytes:
    """HASH160 <20 bytes> EQUAL (BIP 16)."""
    if len(script_hash) != 20:
        raise ValueError(f"a script hash has 20 bytes, got {len(script_hash)}")
    return b"\xa9\x14" + script_hash + b"\x87"
