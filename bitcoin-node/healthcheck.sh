#!/bin/sh
# Healthy: the node answers RPC. It need not have caught up with the chain yet.
exec bitcoin-cli -conf=/run/bitcoin/bitcoin.conf -datadir=/var/lib/bitcoin getblockcount >/dev/null
