-- Expected time to a block per worker and for the pool, from the work of the last 24
-- hours: a hash solves a block with probability 1 / (network difficulty * 2^32), so
-- the time is exponential with mean D * 2^32 / hashrate.
with tip as (
    select bounded(network_difficulty) as network_difficulty from network_blocks order by seen_at desc, height desc limit 1
),
work as (
    select worker_id, user_id, sum(bounded(difficulty)) * %(hashes)s / 86400 as hashrate
    from shares
    where time >= %(now)s - interval '24 hours' and time < %(now)s and is_valid
    group by worker_id, user_id
),
scopes as (
    select 'worker' as scope, worker_id, user_id, hashrate from work
    union all
    select 'pool', 0, null, sum(hashrate) from work having sum(hashrate) > 0
),
computed as (
    select s.*, t.network_difficulty,
        t.network_difficulty * %(hashes)s / s.hashrate as expected_seconds
    from scopes s cross join tip t
),
gone as (
    delete from block_odds o
    where not exists (
        select from computed c where c.scope = o.scope and c.worker_id = o.worker_id
    )
)
insert into block_odds
select
    scope, worker_id, user_id, hashrate, network_difficulty, expected_seconds,
    1 - exp(greatest(-86400 / expected_seconds, -700)),
    1 - exp(greatest(-604800 / expected_seconds, -700)),
    1 - exp(greatest(-31557600 / expected_seconds, -700)),
    %(now)s
from computed
on conflict (scope, worker_id) do update set
    user_id = excluded.user_id,
    hashrate = excluded.hashrate,
    network_difficulty = excluded.network_difficulty,
    expected_seconds = excluded.expected_seconds,
    chance_day = excluded.chance_day,
    chance_week = excluded.chance_week,
    chance_year = excluded.chance_year,
    computed_at = excluded.computed_at
