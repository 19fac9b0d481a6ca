"""A regtest node: Bitcoin Core's consensus code behind bitcoind's RPC dialect.

What a node needs for mining and nothing else: there are no peers and no mempool, so that every
block holds its coinbase alone.
"""
