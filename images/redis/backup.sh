#!/bin/sh
# backup-redis: writes the append-only file to the standard output, as a tar. A rewrite
# would change the set of its files meanwhile, so none may start; writes go on.
set -eu
before=$(redis-cli config get auto-aof-rewrite-percentage | tail -n 1)
redis-cli config set auto-aof-rewrite-percentage 0 >/dev/null
staged=$(mktemp -d /data/backup.XXXXXX)
trap 'rm -rf "$staged"; redis-cli config set auto-aof-rewrite-percentage "$before" >/dev/null' EXIT
while redis-cli info persistence | grep -Eq 'aof_rewrite_(in_progress|scheduled):1'; do
    sleep 1
done
# A last command that was copied by half is cut off when Redis loads the file
# (aof-load-truncated, on by default).
cp -r /data/appendonlydir "$staged/"
tar -C "$staged" -cf - appendonlydir
