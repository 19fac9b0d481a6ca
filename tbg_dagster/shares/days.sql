-- What each day of a span came to.
select
    bucket,
    count(*) as rows,
    sum(shares)::bigint as shares,
    sum(accepted)::bigint as accepted,
    sum(rejected)::bigint as rejected,
    sum(work) as work,
    max(best_share_diff) as best_share_diff,
    count(distinct user_id) as users
from shares_daily
where bucket >= %(start)s and bucket < %(end)s
group by bucket
order by bucket
