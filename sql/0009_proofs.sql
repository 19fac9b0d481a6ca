-- depends: 0008_balance
-- What proves bests and blocks, so that anybody can check them after the raw shares are gone.

-- Kept for ever. Who found what is the event's claim; the first one of a share stays.
create table share_proofs (
    share_hash bytea primary key,
    user_id    integer not null references users,
    difficulty double precision not null,  -- claimed
    found_at   timestamptz not null,       -- claimed
    header     bytea not null check (octet_length(header) = 80),
    coinbase   bytea not null,
    branch     bytea not null check (octet_length(branch) % 32 = 0)
);

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

-- When each block was the tip, as our engines saw it; replaced_at is null for the last one.
create view network_tips as
select
    hash,
    height,
    seen_at,
    (select min(n.seen_at) from network_blocks n where n.height = b.height + 1) as replaced_at
from network_blocks b;
