-- depends: 0004_batch
-- The share ledger as it stood when an hour was closed. Late events change
-- ledger_hours; closing the hour again brings them here.

create table share_ledger (
    hour             timestamptz not null,
    instance_id      integer not null references engine_instances,
    emitted          bigint not null,
    received         bigint not null,
    published        bigint not null,
    committed        bigint not null,
    dead_lettered    bigint not null,
    duplicates       bigint not null,
    dropped          bigint not null,
    dropped_by_cause jsonb not null,
    missing          bigint not null,
    unexplained      bigint not null,
    closed_at        timestamptz not null default now(),
    primary key (hour, instance_id)
);

create index share_ledger_unexplained on share_ledger (hour) where unexplained <> 0;
