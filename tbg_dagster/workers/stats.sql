-- What the shares of a day say of each worker, one row per worker.
--
-- Uptime adds up the gaps between a worker's shares that chance explains. Share
-- times are a Poisson process: the median gap is ln 2 of the mean one (and hardly
-- moved by outages), and a gap above 14 means has a chance of 1 in a million.
--
-- One pass over the shares, and the gaps of a worker in one sorted array: an ordered-set
-- aggregate would sort each worker's by itself.
with day as (
    select
        worker_id, user_id, difficulty, share_diff, is_valid,
        extract(epoch from time - lag(time) over (partition by worker_id order by time))
            ::double precision as gap
    from shares
    where time >= %(start)s and time < %(end)s
),
per_worker as (
    select
        worker_id,
        min(user_id) as user_id,
        count(*) filter (where is_valid) as accepted,
        count(*) filter (where not is_valid) as rejected,
        coalesce(sum(difficulty::numeric) filter (where is_valid), 0)::double precision as work,
        coalesce(sum((difficulty * difficulty)::numeric) filter (where is_valid), 0)
            ::double precision as work_squared,
        max(share_diff) filter (where is_valid) as best_share_diff,
        max(gap) as longest_gap,
        count(gap) as gaps,
        array_agg(gap order by gap) as gap
    from day
    group by worker_id
),
paced as (
    select
        *,
        greatest(60, 14 / ln(2.0) * (gap[(gaps + 1) / 2] + gap[gaps / 2 + 1]) / 2) as allowed_gap
    from per_worker
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
    p.worker_id,
    p.user_id,
    p.accepted,
    p.rejected,
    p.work,
    p.work_squared,
    p.best_share_diff,
    p.longest_gap,
    (select coalesce(sum(g), 0) from unnest(p.gap) g where g <= p.allowed_gap) as uptime,
    coalesce(r.rejects_by_reason, '{}') as rejects_by_reason
from paced p
left join reasons r using (worker_id)
order by p.worker_id
