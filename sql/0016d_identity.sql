-- depends: 0011_archive
-- Which database this is: numbers of users, workers and engine boots mean nothing in another
-- one. Made once; a copy of the database is the same database.
create table database_identity (
    only_row boolean primary key default true check (only_row),
    id       uuid not null default gen_random_uuid()
);

insert into database_identity default values;

-- Databases that this one continues, as a person has said: their archive is its own.
create table adopted_databases (
    id         uuid primary key,
    adopted_at timestamptz not null default now()
);
