"""A CPU miner over Stratum V1: small, honest, and quick enough for a regtest chain."""
