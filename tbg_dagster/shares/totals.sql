-- What each hour or day of a span came to. A worker has one row in each, of one user.
select
    bucket,
    sum(rows)::bigint as rows,
    sum(shares)::bigint as shares,
    sum(accepted)::bigint as accepted,
    sum(rejected)::bigint as rejected,
    sum(least(work, 1e290)) as work,
    count(*) as users,
    sum(rows)::bigint as workers
from (
    select
        bucket,
        user_id,
        count(*) as rows,
        sum(shares) as shares,
        sum(accepted) as accepted,
        sum(rejected) as rejected,
        sum(least(work, 1e290)) as work
    from {rollup}
    where bucket >= %(start)s and bucket < %(end)s
    group by bucket, user_id
) per_user
group by bucket
order by bucket
