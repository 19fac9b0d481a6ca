#!/bin/sh
# Run once, when the database's volume is new: a role and a database for the platform
# and one of each for Dagster. Neither role is a superuser; the passwords come from the
# environment and are quoted by psql.
set -eu
psql --quiet -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv tbg_password DATABASE_PASSWORD
\getenv dagster_password DAGSTER_PASSWORD
create role tbg login password :'tbg_password';
create role dagster login password :'dagster_password';
create database tbg owner tbg;
create database dagster owner dagster;
revoke connect on database tbg, dagster from public;
SQL
