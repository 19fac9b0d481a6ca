"""A regtest node: Bitcoin Core's consensus code behind bitcoind's RPC dialect.

It has what mining needs and nothing else: no peers and no mempool, so every block holds only its
coinbase.
"""
