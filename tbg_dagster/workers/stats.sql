-- What the shares of a day say of each worker, one row per worker.
--
-- Uptime adds up the gaps between a worker's shares that chance explains. Share
-- times are a Poisson process: the median gap is ln 2 of the mean one (and hardly
-- moved by outages), and a gap above 14 means has a chance of 1 in a million.
with day as (
    select
        worker_id, user_id, time, difficulty, share_diff, is_valid,
        extract(epoch from time - lag(time) over (partition by worker_id order by time))
            ::double precision as gap
    from shares
    where time >= %(start)s and time < %(end)s
),
pace as (
    select
        worker_id,
        greatest(
            60, 14 / ln(2.0) * percentile_cont(0.5) within group (order by gap)
        ) as allowed_gap
    from day
    group by worker_id
),
reasons as (
    select worker_id, jsonb_object_agg(reason, rejects order by reason) as rejects_by_reason
    from (
        select worker_id, coalesce(reject_reason, 'unknown') as reason, count(*) as rejects
        from shares
        where time >= %(start)s and time < %(end)s and not is_valid
        group by 1, 2
    ) counted
    group by worker_id
)
select
    d.worker_id,
    min(d.user_id) as user_id,
    count(*) filter (where d.is_valid) as accepted,
    count(*) filter (where not d.is_valid) as rejected,
    coalesce(sum(d.difficulty::numeric) filter (where d.is_valid), 0)::double precision as work,
    coalesce(sum(d.difficulty::numeric * d.difficulty::numeric) filter (where d.is_valid), 0)
        ::double precision as work_squared,
    max(d.share_diff) filter (where d.is_valid) as best_share_diff,
    max(d.gap) as longest_gap,
    coalesce(sum(d.gap) filter (where d.gap <= p.allowed_gap), 0)::double precision as uptime,
    coalesce(r.rejects_by_reason, '{}') as rejects_by_reason
from day d
join pace p using (worker_id)
left join reasons r using (worker_id)
group by d.worker_id, r.rejects_by_reason
order by d.worker_id
