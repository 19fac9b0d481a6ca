"""The new coins of a block."""

INITIAL_SUBSIDY = 50 * 100_000_000
"""Satoshis per block before the first halving."""

HALVING_INTERVAL = 210_000
"""Blocks between two halvings, on every network but regtest."""

REGTEST_HALVING_INTERVAL = 150


def block_subsidy(height: int, interval: int = HALVING_INTERVAL) -> int:
    """Satoshis that the block at ``height`` may create besides its fees.

    Bitcoin Core's GetBlockSubsidy: 50 BTC, halved with integer arithmetic every ``interval``
    blocks.

    Raises:
        ValueError: the height is negative.
    """
    if height < 0:
        raise ValueError(f"a block height is not negative, got {height}")
    return INITIAL_SUBSIDY >> height // interval
