-- depends: 0047_receipt_rows
-- Since when this database is there: the time of a user's first event may be that of history,
-- which an import brings.
alter table database_identity add column made_at timestamptz not null default now();
comment on column database_identity.made_at is 'since when this database receives events';

update database_identity
set made_at = least(made_at, (select min(first_seen) from engine_instances));
