"""A Stratum V1 solo pool: every miner works for a block that pays its own address."""
