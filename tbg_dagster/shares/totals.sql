-- What each hour or day of a span came to.
select
    bucket,
    count(*) as rows,
    sum(shares)::bigint as shares,
    sum(accepted)::bigint as accepted,
    sum(rejected)::bigint as rejected,
    sum(work) as work,
    count(distinct user_id) as users,
    count(distinct worker_id) as workers
from {rollup}
where bucket >= %(start)s and bucket < %(end)s
group by bucket
order by bucket
