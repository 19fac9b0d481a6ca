#!/bin/sh
# bitcoin-node signet|regtest: Bitcoin Core on that network.
#
# The RPC password comes from TBG_RPC_PASSWORD. It goes into a file that only this user
# can read, in memory where /run/bitcoin is a tmpfs, and on no command line.
set -eu
network=${1:-}
template=${BITCOIN_CONF_DIR:-/etc/bitcoin}/bitcoin-$network.conf
if [ ! -f "$template" ]; then
    echo "usage: bitcoin-node signet|regtest (got '$network')" >&2
    exit 2
fi
: "${TBG_RPC_PASSWORD:?the RPC password is not set: run make secrets}"
runtime=${BITCOIN_RUNTIME_DIR:-/run/bitcoin}
umask 077
cp "$template" "$runtime/bitcoin.conf"
printf 'rpcuser=tbg\nrpcpassword=%s\n' "$TBG_RPC_PASSWORD" >"$runtime/rpc.conf"
unset TBG_RPC_PASSWORD
exec bitcoind -conf="$runtime/bitcoin.conf" -datadir="${BITCOIN_DATA_DIR:-/var/lib/bitcoin}"
