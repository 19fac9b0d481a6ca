"""A Bitcoin network for machines without Bitcoin Core or Docker: node, pool, miner, simulator."""
