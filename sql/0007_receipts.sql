-- depends: 0006_identity
-- Roots of receipts: what the pool has said of each closed hour.

-- The tree of an engine boot's numbers in an hour: one leaf for every number from first_seq to
-- last_seq. With what it states of the numbers without a row it can be built again, also after
-- late events have made another revision.
create table receipt_trees (
    hour        timestamptz not null,
    instance_id integer not null references engine_instances,
    revision    integer not null,
    first_seq   bigint not null,
    last_seq    bigint not null,
    refused     int8multirange not null,
    dropped     int8multirange not null,
    missing     int8multirange not null,
    shares      bigint not null,
    events      bigint not null,
    valid       bigint not null,
    work        numeric not null,
    root        bytea not null check (octet_length(root) = 32),
    entry       bigint not null,
    books       text not null,
    built_at    timestamptz not null default now(),
    primary key (hour, instance_id, revision)
);

comment on table receipt_trees is 'Trees of receipts: one leaf for every number of an engine boot in an hour. Kept for ever; rows are added and not changed.';
comment on column receipt_trees.hour is 'start of the hour, UTC';
comment on column receipt_trees.instance_id is 'engine_instances.id: the boot';
comment on column receipt_trees.revision is '1 for the first; events that came late, or a person, made another one';
comment on column receipt_trees.first_seq is 'number of the first leaf';
comment on column receipt_trees.last_seq is 'number of the last leaf; first_seq - 1 where there is none';
comment on column receipt_trees.refused is 'numbers whose leaf says that the event was refused';
comment on column receipt_trees.dropped is 'numbers whose leaf says that the event was lost where it was counted';
comment on column receipt_trees.missing is 'numbers whose leaf says that nothing is known of them';
comment on column receipt_trees.shares is 'leaves that are shares';
comment on column receipt_trees.events is 'leaves that are other events';
comment on column receipt_trees.valid is 'valid shares';
comment on column receipt_trees.work is 'difficulty of the valid shares, in units of 2^-96';
comment on column receipt_trees.root is 'hash of the tree, 32 bytes';
comment on column receipt_trees.entry is 'receipt_roots.index: the first entry that it is in';
comment on column receipt_trees.books is 'the ledger''s figures that it was built on';
comment on column receipt_trees.built_at is 'when it was built';

create index receipt_trees_numbers on receipt_trees (instance_id, first_seq, last_seq);

-- The log: the root of an hour over its boots, and the hash of the entry before.
create table receipt_roots (
    index        bigint primary key,
    hour         timestamptz not null,
    revision     integer not null,
    boots        integer not null,
    root         bytea not null check (octet_length(root) = 32),
    work         numeric not null,
    valid        bigint not null,
    reason       text not null default '',
    previous     bytea not null check (octet_length(previous) = 32),
    hash         bytea not null unique check (octet_length(hash) = 32),
    published_at timestamptz not null default now(),
    unique (hour, revision)
);

comment on table receipt_roots is 'The log of roots of receipts: an entry for each hour and revision. Kept for ever; rows are added and not changed.';
comment on column receipt_roots.index is 'place in the log, from 0';
comment on column receipt_roots.hour is 'start of the hour, UTC';
comment on column receipt_roots.revision is '1 for the first of the hour';
comment on column receipt_roots.boots is 'engine boots in it';
comment on column receipt_roots.root is 'hash of the tree over the boots, 32 bytes';
comment on column receipt_roots.work is 'difficulty of the valid shares, in units of 2^-96';
comment on column receipt_roots.valid is 'valid shares';
comment on column receipt_roots.reason is 'why a person published it; empty for an ordinary one';
comment on column receipt_roots.previous is 'hash of the entry before, zeros for the first';
comment on column receipt_roots.hash is 'of this entry, and so of all before it';
comment on column receipt_roots.published_at is 'when it was added';
