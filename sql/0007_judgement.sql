-- depends: 0005_share_ledger
-- What the batch side must know before it judges miners, blocks and weeks.

-- A user's total hash rates. They stood in the row of the worker without a name, which has
-- a pace of its own.
alter table users
    add column hashrate_1m  double precision,
    add column hashrate_5m  double precision,
    add column hashrate_1h  double precision,
    add column hashrate_24h double precision;

update users u set
    hashrate_1m = w.hashrate_1m,
    hashrate_5m = w.hashrate_5m,
    hashrate_1h = w.hashrate_1h,
    hashrate_24h = w.hashrate_24h
from workers w
where w.user_id = u.id and w.worker_name = '';

update workers
set hashrate_1m = null, hashrate_5m = null, hashrate_1h = null, hashrate_24h = null
where worker_name = '';

-- The height that the node gives a block, where the engine reported another one.
alter table blocks add column chain_height integer;

-- Which connections of a worker are open.
create index mining_events_connections on mining_events ((payload ->> 'user'), time desc)
where event in ('miner_connected', 'miner_disconnected');

-- Hours of an engine boot whose events have times that cannot be. Its shares of such an hour
-- are in no weekly result until a person has decided; then that week is computed again.
create table skewed_hours (
    hour        timestamptz not null,
    instance_id integer not null,  -- 0 for events that name no instance
    kind        text not null check (kind in ('ahead', 'behind')),
    noticed_at  timestamptz not null default now(),
    decision    text check (decision in ('keep', 'leave out')),  -- null: undecided
    primary key (hour, instance_id)
);
