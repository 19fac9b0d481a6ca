#!/bin/sh
# restore-redis: replaces the append-only file by a backup from the standard input.
# Only while the server is stopped.
set -eu
if redis-cli -h redis ping >/dev/null 2>&1; then
    echo "the server is running: stop it first (docker compose stop redis)" >&2
    exit 1
fi
staged=$(mktemp -d /data/restore.XXXXXX)
trap 'rm -rf "$staged"' EXIT
tar -C "$staged" -xf -
test -s "$staged/appendonlydir/appendonly.aof.manifest"
rm -rf /data/appendonlydir
mv "$staged/appendonlydir" /data/
