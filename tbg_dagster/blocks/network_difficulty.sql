-- One row per run of blocks with the same network difficulty. A height seen twice (a
-- reorg) counts once, as it was seen last.
with tips as (
    select distinct on (height) height, network_difficulty, seen_at
    from network_blocks
    order by height, seen_at desc, hash
),
changes as (
    select
        *,
        case
            when network_difficulty is distinct from lag(network_difficulty) over (order by height)
                then 1
            else 0
        end as change
    from tips
),
epochs as (
    select *, sum(change) over (order by height) as epoch from changes
),
computed as (
    select
        min(height) as first_height,
        max(height) as last_height,
        min(network_difficulty) as network_difficulty,
        count(*)::integer as blocks,
        min(seen_at) as first_seen,
        max(seen_at) as last_seen,
        case when max(height) > min(height)
            then extract(epoch from max(seen_at) - min(seen_at)) / (max(height) - min(height))
        end::double precision as block_seconds
    from epochs
    group by epoch
),
gone as (
    delete from network_difficulty n
    where not exists (select from computed c where c.first_height = n.first_height)
)
insert into network_difficulty
select * from computed
on conflict (first_height) do update set
    last_height = excluded.last_height,
    network_difficulty = excluded.network_difficulty,
    blocks = excluded.blocks,
    first_seen = excluded.first_seen,
    last_seen = excluded.last_seen,
    block_seconds = excluded.block_seconds
