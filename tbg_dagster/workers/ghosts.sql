-- Online workers that are silent, with what is needed to tell how long they may be.
--
-- A row's own time (noted_share) lags, so the shares are asked for the last one of those that
-- seem silent by it; most of them are not.
--
-- A worker's pace is that of its last shares: it knows of no engine restart, after which the
-- engine's averages begin at 0. Share times are a Poisson process, so the mean gap is the
-- median one over ln 2, which a nap hardly moves; over the difficulty it is the hash rate.
-- The engine's averages serve a worker with too few shares.
select
    w.id as worker_id,
    u.btc_address as user,
    w.worker_name as worker,
    coalesce(w.last_share, w.first_seen) as last_seen,
    w.last_share,
    w.noted_share,
    w.current_diff,
    coalesce(
        case when pace.gaps >= %(enough)s and pace.median > 0
            then ln(2.0) * %(hashes)s / pace.median
        end,
        nullif(w.hashrate_1h, 0),
        greatest(w.hashrate_5m, w.hashrate_1m)
    )::double precision as hashrate
from workers_seen w
join users u on u.id = w.user_id
left join lateral (
    select
        count(gap) as gaps,
        percentile_cont(0.5) within group (order by gap / nullif(difficulty, 0)) as median
    from (
        select difficulty, extract(epoch from time - lag(time) over (order by time)) as gap
        from (
            select time, difficulty
            from shares s
            where s.worker_id = w.id
              and s.time > coalesce(w.last_share, w.first_seen) - interval '1 day'
              and s.time <= %(now)s
              and s.is_valid
            order by s.time desc
            limit 100
        ) newest
    ) gaps
) pace on true
where w.is_online
  and coalesce(w.noted_share, w.first_seen) < %(now)s - interval '1 minute'
  and coalesce(w.last_share, w.first_seen) < %(now)s - interval '1 minute'
order by w.id
