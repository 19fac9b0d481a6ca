-- Miners, blocks, the weekly game, and what the daemon needs to resume.
-- The same on TimescaleDB and on plain PostgreSQL.

create table users (
    id           integer generated always as identity primary key,
    btc_address  text not null unique,
    display_name text,
    country_code char(2),
    created_at   timestamptz not null default now(),
    last_seen    timestamptz,
    is_verified  boolean not null default false
);

create table workers (
    id           integer generated always as identity primary key,
    user_id      integer not null references users,
    worker_name  text not null,
    first_seen   timestamptz not null default now(),
    last_share   timestamptz,
    current_diff double precision,
    hashrate_1m  double precision,
    hashrate_5m  double precision,
    hashrate_1h  double precision,
    hashrate_24h double precision,
    is_online    boolean not null default false,
    user_agent   text,
    source       varchar(16) not null default 'hosted',
    unique (user_id, worker_name)
)
-- last_share changes with every batch: room on each page keeps those updates
-- off the indexes (heap-only tuples).
with (fillfactor = 70);

create index workers_online on workers (last_share) where is_online;

-- One row per engine boot. seq_max and seq_missing say which events of the
-- instance were seen: everything in 1..seq_max that is not missing. They commit
-- with the rows, so a resent event is known from a new one, and a late one fills
-- its gap.
create table engine_instances (
    id          integer generated always as identity primary key,
    instance    text not null unique,
    source      varchar(16) not null default 'hosted',
    first_seen  timestamptz not null default now(),
    last_seen   timestamptz not null default now(),
    seq_max     bigint not null default 0,
    seq_missing int8multirange not null default '{}',
    events      bigint not null default 0,
    duplicates  bigint not null default 0
);

-- What became of each instance's events, by the hour of their own time: see
-- ledger_hours. Counted in the transaction of the rows.
create table ledger (
    instance_id   integer not null references engine_instances,
    hour          timestamptz not null,
    received      bigint not null default 0,  -- read from the socket, as receivers say
    first_seq     bigint,
    last_seq      bigint,
    committed     bigint not null default 0,
    dead_lettered bigint not null default 0,
    duplicates    bigint not null default 0,  -- resent, and not stored again
    primary key (instance_id, hour)
)
with (fillfactor = 70);

create index ledger_hour on ledger (hour);

-- Losses that were counted where they happened: the numbers of the events that were
-- dropped; cause is "stage/reason". One of them that came again after all is in
-- engine_instances.seq_missing no more, and so no loss.
create table ledger_drops (
    instance_id integer not null references engine_instances,
    cause       text not null,
    numbers     int8multirange not null,
    primary key (instance_id, cause)
);

create table blocks (
    id                 integer generated always as identity primary key,
    block_height       integer not null,
    block_hash         text not null unique,
    prev_hash          text,
    user_id            integer not null references users,
    worker_id          integer not null references workers,
    reward_sats        bigint not null,
    fees_sats          bigint,
    reward_btc         numeric(16, 8) generated always as (reward_sats / 100000000.0) stored,
    difficulty         double precision not null,
    network_difficulty double precision not null,
    coinbase_sig       text not null,
    confirmations      integer not null default 0,
    status             text not null default 'found'
        check (status in ('found', 'accepted', 'confirmed', 'orphaned', 'rejected')),
    found_at           timestamptz not null,
    confirmed_at       timestamptz,
    source             varchar(16) not null default 'hosted'
);

create index blocks_status on blocks (status, block_height);
create index blocks_user on blocks (user_id, found_at desc);

create table weekly_best_diff (
    user_id         integer not null references users,
    week_start      date not null,  -- a Monday, UTC
    best_difficulty double precision not null,
    best_share_time timestamptz not null,
    best_worker_id  integer references workers,
    best_share_hash bytea,
    total_shares    bigint not null default 0,
    total_work      double precision not null default 0,  -- sum of assigned difficulty
    finalized_at    timestamptz,
    rank            integer,
    primary key (user_id, week_start),
    check (extract(isodow from week_start) = 1)
)
with (fillfactor = 70);

-- The best share of a week is the first entry here.
create index weekly_best_diff_best on weekly_best_diff (week_start, best_difficulty desc);

create table network_blocks (
    hash               text primary key,
    height             integer not null,
    network_difficulty double precision not null,
    prev_hash          text,
    seen_at            timestamptz not null,
    source             varchar(16) not null default 'hosted'
);

create index network_blocks_height on network_blocks (height desc);

-- What was refused, where, and why. Nothing is refused without a row here.
create table dead_letters (
    id          bigint generated always as identity primary key,
    received_at timestamptz not null default now(),
    stage       text not null,
    reason      text not null,
    detail      text not null,
    raw         bytea not null,
    instance    text,
    seq         bigint
);

create index dead_letters_time on dead_letters (received_at);

-- How far each writer has committed each stream, in the transaction of the rows.
create table stream_offsets (
    consumer   text not null,
    stream     text not null,
    last_id    text not null,
    entries    bigint not null default 0,  -- read since the stream began
    updated_at timestamptz not null default now(),
    primary key (consumer, stream)
);

-- Closed hours that got a share after they had closed: what the batch side
-- must compute again.
create table late_share_hours (
    hour             timestamptz primary key,
    shares           bigint not null,
    first_recorded_at timestamptz not null default now(),
    last_recorded_at timestamptz not null default now()
);

create index late_share_hours_recorded on late_share_hours (last_recorded_at);
