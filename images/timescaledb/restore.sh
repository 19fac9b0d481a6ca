#!/bin/sh
# restore-database: replaces the platform's database by a backup from the standard
# input. Whatever is connected to it is cut off; stop the programs that use it first.
set -eu
run() { psql --quiet -v ON_ERROR_STOP=1 --username postgres --dbname "$@"; }
# The whole backup must be here before anything is dropped.
backup=$(mktemp)
trap 'rm -f "$backup"' EXIT
cat >"$backup"
pg_restore --list "$backup" >/dev/null
run postgres -c 'drop database if exists tbg with (force)' -c 'create database tbg owner tbg' \
    -c 'revoke connect on database tbg from public'
offered=$(run tbg --tuples-only --no-align \
    -c "select count(*) from pg_available_extensions where name = 'timescaledb'")
if [ "$offered" = 1 ]; then
    # TimescaleDB's own catalogue comes back row by row: its background work must wait.
    run tbg -c 'create extension if not exists timescaledb' -c 'select timescaledb_pre_restore()' >/dev/null
fi
pg_restore --username postgres --dbname tbg --exit-on-error "$backup"
if [ "$offered" = 1 ]; then
    run tbg -c 'select timescaledb_post_restore()' >/dev/null
fi
run tbg -c 'analyze'
