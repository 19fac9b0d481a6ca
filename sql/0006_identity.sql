-- depends: 0005_messages
-- Which database this is, and the days that came back from its archive.

-- Which database this is: numbers of users, workers and engine boots mean nothing in another
-- one. Made once; see database_id() in 0049_copies.sql.
create table database_identity (
    only_row boolean primary key default true check (only_row),
    id       uuid not null default gen_random_uuid()
);

comment on table database_identity is 'The name of this database, for the archive.';
comment on column database_identity.only_row is 'always true';
comment on column database_identity.id is 'the identity';

insert into database_identity default values;

-- A person has said that this database continues them: their archive is its own.
create table adopted_databases (
    id         uuid primary key,
    adopted_at timestamptz not null default now()
);

comment on table adopted_databases is 'Databases whose archive this one has taken over.';
comment on column adopted_databases.id is 'identity of the other database';
comment on column adopted_databases.adopted_at is 'time of the decision';

-- Housekeeping drops such a day again once keep_until has passed, and not before.
create table restored_days (
    day         date primary key,
    revision    integer not null,
    restored_at timestamptz not null default now(),
    keep_until  timestamptz not null
);

comment on table restored_days is 'Days that were brought back from the archive.';
comment on column restored_days.day is 'the day (UTC)';
comment on column restored_days.revision is 'revision of the archive';
comment on column restored_days.restored_at is 'time of the restore';
comment on column restored_days.keep_until is 'time until which retention leaves it';
