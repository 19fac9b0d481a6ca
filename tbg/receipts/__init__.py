"""``tbg receipt`` and ``tbg receipts``: what a miner checks, and what it is checked against."""
