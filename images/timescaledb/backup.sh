#!/bin/sh
# backup-database: writes the platform's database to the standard output, as pg_restore
# reads it. Reads a snapshot: everything may go on running.
set -eu
exec pg_dump --username postgres --format custom tbg
