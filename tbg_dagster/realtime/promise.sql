-- What the miners that are there promise, and the newest share of them all.
select
    coalesce(sum(bounded(p.hashrate) / (bounded(p.current_diff) * %(hashes)s)), 0)::double precision as rate,
    count(*) as workers,
    bool_and(p.source = 'simulated') as simulated,
    -- Rows of workers lag; the few shares since the newest of them are at the end of the table.
    coalesce(
        (select max(time) from shares where time > (select max(last_share) from workers)),
        (select max(last_share) from workers)
    ) as newest
from (
    select
        w.current_diff,
        w.source,
        coalesce(nullif(w.hashrate_1h, 0), greatest(w.hashrate_5m, w.hashrate_1m)) as hashrate
    from workers w
    left join worker_liveness l on l.worker_id = w.id
    where w.current_diff > 0
      and (w.is_online or l.marked_at > %(now)s - interval '1 hour')
) p
where p.hashrate > 0
