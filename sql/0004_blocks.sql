-- depends: 0003_weeks
-- Blocks of ours and of the network, and what proves blocks and bests: anybody can check them
-- after the raw shares are gone.

-- status_changes numbers the messages about a block.
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
    source             varchar(16) not null default 'hosted',
    status_changes     integer not null default 0,
    chain_height       integer
);

comment on table blocks is 'Blocks that were found, and what became of them.';
comment on column blocks.id is 'number of the block, in this database alone';
comment on column blocks.block_height is 'height that the engine reported';
comment on column blocks.block_hash is '64 hex digits';
comment on column blocks.prev_hash is '64 hex digits: the block before';
comment on column blocks.user_id is 'the finder';
comment on column blocks.worker_id is 'the finder''s worker';
comment on column blocks.reward_sats is 'satoshis, fees included';
comment on column blocks.fees_sats is 'satoshis of fees; null if the engine does not know them';
comment on column blocks.reward_btc is 'reward_sats in BTC';
comment on column blocks.difficulty is 'share difficulty of the block';
comment on column blocks.network_difficulty is 'difficulty that the network asked for';
comment on column blocks.coinbase_sig is 'signature of the pool in the coinbase';
comment on column blocks.confirmations is 'blocks on top, this one included';
comment on column blocks.status is 'found, accepted, confirmed, orphaned or rejected';
comment on column blocks.found_at is 'time that the engine gave it';
comment on column blocks.confirmed_at is 'time at which it became final';
comment on column blocks.source is 'hosted, or simulated';
comment on column blocks.status_changes is 'how often the status changed';
comment on column blocks.chain_height is 'height by the node, where it differs from block_height';

create index blocks_status on blocks (status, block_height);

create index blocks_user on blocks (user_id, found_at desc);

-- How long a block takes, at the work of the last 24 hours. worker_id is 0 for the pool.
create table block_odds (
    scope              text not null check (scope in ('pool', 'worker')),
    worker_id          integer not null,
    user_id            integer,
    hashrate           double precision not null,
    network_difficulty double precision not null,
    expected_seconds   double precision not null,
    chance_day         double precision not null,
    chance_week        double precision not null,
    chance_year        double precision not null,
    computed_at        timestamptz not null,
    primary key (scope, worker_id)
);

comment on table block_odds is 'Chances of a block at the present hash rate.';
comment on column block_odds.scope is 'pool or worker';
comment on column block_odds.worker_id is 'the worker; 0 for the pool';
comment on column block_odds.user_id is 'the user; null for the pool';
comment on column block_odds.hashrate is 'hashes per second';
comment on column block_odds.network_difficulty is 'difficulty that the network asks for';
comment on column block_odds.expected_seconds is 'average seconds to a block';
comment on column block_odds.chance_day is '0 to 1: of a block within a day';
comment on column block_odds.chance_week is '0 to 1: within a week';
comment on column block_odds.chance_year is '0 to 1: within a year';
comment on column block_odds.computed_at is 'time of the computation';

create table network_blocks (
    hash               text primary key,
    height             integer not null,
    network_difficulty double precision not null,
    prev_hash          text,
    seen_at            timestamptz not null,
    source             varchar(16) not null default 'hosted'
);

comment on table network_blocks is 'Tips of the chain that engines saw.';
comment on column network_blocks.hash is '64 hex digits';
comment on column network_blocks.height is 'height';
comment on column network_blocks.network_difficulty is 'difficulty that the network asks for';
comment on column network_blocks.prev_hash is '64 hex digits: the block before';
comment on column network_blocks.seen_at is 'time at which the first engine saw it';
comment on column network_blocks.source is 'hosted, or simulated';

create index network_blocks_height on network_blocks (height desc);

-- The network's tip: heights begin again on a chain of one's own.
create index network_blocks_seen on network_blocks (seen_at desc, height desc);

-- When each block was the tip, as our engines saw it; replaced_at is null for the last one.
-- The message of the block after it may be lost: then a later one replaced it. A block that
-- came before is of another chain (a devnet that began again).
create view network_tips as
select
    b.hash,
    b.height,
    b.seen_at,
    (
        select n.seen_at from network_blocks n
        where n.height > b.height and n.seen_at >= b.seen_at
        order by n.height, n.seen_at
        limit 1
    ) as replaced_at
from network_blocks b;

comment on view network_tips is 'Tips of the chain in the order in which they were seen.';
comment on column network_tips.hash is '64 hex digits';
comment on column network_tips.height is 'height';
comment on column network_tips.seen_at is 'time at which it became the tip';
comment on column network_tips.replaced_at is 'time at which the next one did; null for the newest';

-- One row for each value that the network difficulty had, in order of height.
create table network_difficulty (
    first_height       integer primary key,
    last_height        integer not null,
    network_difficulty double precision not null,
    blocks             integer not null,
    first_seen         timestamptz not null,
    last_seen          timestamptz not null,
    block_seconds      double precision
);

comment on table network_difficulty is 'Spans of blocks with one network difficulty.';
comment on column network_difficulty.first_height is 'first height that was seen';
comment on column network_difficulty.last_height is 'last height that was seen';
comment on column network_difficulty.network_difficulty is 'difficulty that the network asks for';
comment on column network_difficulty.blocks is 'blocks that were seen';
comment on column network_difficulty.first_seen is 'time of the first';
comment on column network_difficulty.last_seen is 'time of the last';
comment on column network_difficulty.block_seconds is 'average seconds between two blocks; null if one was seen';

-- Who found what is the event's claim; the first one of a share stays.
create table share_proofs (
    share_hash bytea primary key,
    user_id    integer not null references users,
    difficulty double precision not null,
    found_at   timestamptz not null,
    header     bytea not null check (octet_length(header) = 80),
    coinbase   bytea not null,
    branch     bytea not null check (octet_length(branch) % 32 = 0)
);

comment on table share_proofs is 'Proofs of work of bests and blocks.';
comment on column share_proofs.share_hash is 'hash of the header';
comment on column share_proofs.user_id is 'the user';
comment on column share_proofs.difficulty is 'share difficulty that the header proves';
comment on column share_proofs.found_at is 'time of the share';
comment on column share_proofs.header is '80 bytes';
comment on column share_proofs.coinbase is 'the coinbase transaction, without witness';
comment on column share_proofs.branch is 'hashes of the Merkle branch, 32 bytes each';

-- Every claim to a share that may be proven, with its proof (null where there is none): bests
-- of weeks, blocks, and bests that a better one has followed. counted_week is an earlier week
-- that the same share of the same user counts for.
create view share_claims as
with claims as (
    select
        w.best_share_hash as share_hash,
        w.user_id,
        w.best_worker_id as worker_id,
        w.best_difficulty as difficulty,
        w.best_share_time as found_at,
        w.week_start,
        w.rank,
        null as coinbase_sig,
        (
            select min(o.week_start) from weekly_best_diff o
            where o.user_id = w.user_id
              and o.best_share_hash = w.best_share_hash
              and o.week_start < w.week_start
        ) as counted_week
    from weekly_best_diff w
    union all
    select
        decode(b.block_hash, 'hex'), b.user_id, b.worker_id, b.difficulty, b.found_at, null, null,
        b.coinbase_sig, null
    from blocks b
    union all
    select p.share_hash, p.user_id, null, p.difficulty, p.found_at, null, null, null, null
    from share_proofs p
    where not exists (
        select from weekly_best_diff w
        where w.user_id = p.user_id and w.best_share_hash = p.share_hash
    ) and not exists (
        select from blocks b
        where b.user_id = p.user_id and b.block_hash = encode(p.share_hash, 'hex')
    )
)
select
    encode(c.share_hash, 'hex') as share_hash,
    u.btc_address as user,
    coalesce(k.worker_name, '') as worker,
    c.difficulty,
    c.found_at,
    c.week_start,
    c.rank,
    c.coinbase_sig,
    c.counted_week,
    p.header,
    p.coinbase,
    p.branch
from claims c
join users u on u.id = c.user_id
left join workers k on k.id = c.worker_id
left join share_proofs p on p.share_hash = c.share_hash;

comment on view share_claims is 'Bests that a published week rests on, with their proofs where there are some.';
comment on column share_claims.share_hash is '64 hex digits';
comment on column share_claims.user is 'address of the user';
comment on column share_claims.worker is 'name of the worker';
comment on column share_claims.difficulty is 'share difficulty';
comment on column share_claims.found_at is 'time of the share';
comment on column share_claims.week_start is 'Monday of the share''s week';
comment on column share_claims.rank is 'rank in that week';
comment on column share_claims.coinbase_sig is 'signature of the pool in the coinbase';
comment on column share_claims.counted_week is 'Monday of the week in which it counts';
comment on column share_claims.header is '80 bytes';
comment on column share_claims.coinbase is 'the coinbase transaction, without witness';
comment on column share_claims.branch is 'hashes of the Merkle branch';
