-- Expected time to a block per worker and for the pool, from the work of the last 24
-- hours, or since the worker (the pool's first one) was first seen if that is less, though at
-- least a minute: one share proves little. A hash solves a block with probability
-- 1 / (network difficulty * 2^32), so the time is exponential with mean D * 2^32 / hashrate.
with tip as (
    select bounded(network_difficulty) as network_difficulty from network_blocks order by seen_at desc, height desc limit 1
),
work as (
    select s.worker_id, s.user_id, s.hashes, least(w.first_seen, s.first) as since
    from (
        select worker_id, user_id, sum(bounded(difficulty)) * %(hashes)s as hashes,
            min(time) as first
        from shares
        where time >= %(now)s - interval '24 hours' and time < %(now)s and is_valid
        group by worker_id, user_id
    ) s
    join workers w on w.id = s.worker_id
    where s.hashes > 0
),
scopes as (
    select 'worker' as scope, worker_id, user_id, hashes, since from work
    union all
    select 'pool', 0, null, sum(hashes),
        least(min(since), (select min(first_seen) from workers))
    from work
    having sum(hashes) > 0
),
rates as (
    select scope, worker_id, user_id,
        hashes / least(greatest(extract(epoch from %(now)s - since), 60), 86400) as hashrate
    from scopes
),
computed as (
    select s.*, t.network_difficulty,
        t.network_difficulty * %(hashes)s / s.hashrate as expected_seconds
    from rates s cross join tip t
    where t.network_difficulty > 0
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
