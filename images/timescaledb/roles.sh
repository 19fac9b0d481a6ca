#!/bin/sh
# Run once, when the database's volume is new: a role and a database for the platform, one
# of each for Dagster, and roles that only read for Grafana and for tbg serve. None is a
# superuser; the passwords come from the environment and are quoted by psql.
set -eu
psql --quiet -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv tbg_password DATABASE_PASSWORD
\getenv dagster_password DAGSTER_PASSWORD
\getenv grafana_password GRAFANA_PASSWORD
\getenv serve_password SERVE_PASSWORD
create role tbg login password :'tbg_password';
create role dagster login password :'dagster_password';
create database tbg owner tbg;
create database dagster owner dagster;
revoke connect on database tbg, dagster from public;
-- Boards read and never write, and no query of theirs takes the database for itself.
create role grafana login password :'grafana_password';
alter role grafana set default_transaction_read_only = on;
alter role grafana set statement_timeout = '30s';
grant pg_read_all_data to grafana;
grant connect on database tbg to grafana;
-- What tbg serve answers with; tbg migrate grants it what is served, and nothing else.
create role tbg_serve login password :'serve_password';
alter role tbg_serve set default_transaction_read_only = on;
grant connect on database tbg to tbg_serve;
SQL
