-- Online workers that are silent, with what is needed to judge how long they may be.
--
-- A worker with a share in the newest minute is not silent: one pass over that minute finds all of
-- them. A worker that may be silent for longer than its row says is not looked at either; its
-- allowance is kept (worker_allowances), and half of it leaves room for a pace that has changed.
--
-- A row's own time (noted_share) lags, so of the others the shares are asked for the last one.
--
-- A worker's pace is that of its last shares: it knows of no engine restart, after which the
-- engine's averages begin at 0. Share times are a Poisson process, so the mean gap is the
-- median one over ln 2, which a nap hardly moves; over the difficulty it is the hash rate.
-- The engine's averages serve a worker with too few shares.
with active as materialized (
    select distinct worker_id
    from shares
    where time > %(now)s - interval '1 minute' and time <= %(now)s
),
doubtful as materialized (
    select w.*
    from workers w
    left join worker_allowances p
        on p.worker_id = w.id
        and p.difficulty is not distinct from w.current_diff
        and p.judged_at <= %(now)s
        and p.judged_at > %(now)s - greatest(p.allowed / 2, interval '30 minutes')
    where w.is_online
      and coalesce(w.last_share, w.first_seen)
          < %(now)s - greatest(coalesce(p.allowed / 2, '0'), interval '1 minute')
      and not exists (select from active a where a.worker_id = w.id)
),
seen as materialized (
    select d.*, d.last_share as noted_share, greatest(d.last_share, s.time) as true_share
    from doubtful d
    left join lateral (
        select s.time
        from shares s
        where s.worker_id = d.id
          and s.time > d.last_share
          and s.time <= d.last_share + interval '61 minutes'
        order by s.time desc
        limit 1
    ) s on true
)
select
    w.id as worker_id,
    u.btc_address as user,
    w.worker_name as worker,
    coalesce(w.true_share, w.first_seen) as last_seen,
    w.true_share as last_share,
    w.noted_share,
    w.current_diff,
    coalesce(
        case when pace.gaps >= %(enough)s and pace.median > 0
            then ln(2.0) * %(hashes)s / pace.median
        end,
        nullif(w.hashrate_1h, 0),
        greatest(w.hashrate_5m, w.hashrate_1m)
    )::double precision as hashrate
from seen w
join users u on u.id = w.user_id
left join lateral (
    select
        count(gap) as gaps,
        percentile_cont(0.5) within group (order by gap / nullif(bounded(difficulty), 0)) as median
    from (
        select difficulty, extract(epoch from time - lag(time) over (order by time)) as gap
        from (
            select time, difficulty
            from shares s
            where s.worker_id = w.id
              and s.time > coalesce(w.true_share, w.first_seen) - interval '1 day'
              and s.time <= %(now)s
              and s.is_valid
            order by s.time desc
            limit 100
        ) newest
    ) gaps
) pace on true
where coalesce(w.true_share, w.first_seen) < %(now)s - interval '1 minute'
order by w.id
