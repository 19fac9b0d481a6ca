-- Hours of a span that have a rollup, and whose first or last share is not there any more: all
-- of their raw shares were dropped, or all but those that came later. The user and the worker
-- of a share let an index find it, in a compressed chunk as well.
with rolled as materialized (
    select bucket, user_id, worker_id, first_share, last_share
    from shares_hourly
    where bucket >= %(start)s and bucket < %(end)s
),
edges as (
    (
        select distinct on (bucket) bucket, user_id, worker_id, first_share as time
        from rolled
        order by bucket, first_share
    )
    union all
    (
        select distinct on (bucket) bucket, user_id, worker_id, last_share
        from rolled
        order by bucket, last_share desc
    )
)
select distinct e.bucket as hour
from edges e
where not exists (
    select from shares s
    where s.worker_id = e.worker_id and s.user_id = e.user_id and s.time = e.time
      and s.time >= %(start)s and s.time < %(end)s
)
order by hour
