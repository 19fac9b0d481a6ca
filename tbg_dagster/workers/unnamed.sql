-- The hash rates of workers without a name, from their shares up to the last one: engines
-- send only the user's total under this name.
with worked as (
    select
        w.id,
        sum(bounded(s.difficulty)) filter (where s.time > w.last_share - interval '1 minute') as minute,
        sum(bounded(s.difficulty)) filter (where s.time > w.last_share - interval '5 minutes') as five,
        sum(bounded(s.difficulty)) as hour
    from workers_seen w
    join shares s
        on s.worker_id = w.id
        and s.time > w.last_share - interval '1 hour'
        and s.time <= w.last_share
        and s.is_valid
    where w.worker_name = '' and w.last_share > %(now)s - interval '2 hours'
      -- Once more than w.last_share says, so that old workers and days are not looked at.
      and w.noted_share > %(now)s - interval '4 hours'
      and s.time > %(now)s - interval '3 hours'
    group by w.id
),
free as materialized (  -- as in returns.sql
    select id from workers where id in (select id from worked) for no key update skip locked
)
update workers w set
    hashrate_1m = coalesce(k.minute, 0) * %(hashes)s / 60,
    hashrate_5m = coalesce(k.five, 0) * %(hashes)s / 300,
    hashrate_1h = k.hour * %(hashes)s / 3600,
    hashrate_24h = o.hashrate
from worked k
join free using (id)
left join block_odds o on o.scope = 'worker' and o.worker_id = k.id
where w.id = k.id
