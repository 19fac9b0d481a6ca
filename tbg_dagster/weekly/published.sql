-- Weeks from the first on that have a result or were published: how many users, whether the
-- result is minutes old, and what was published last.
with finalised as (
    select week_start, count(*) as entrants, max(finalized_at) as finalized_at
    from weekly_best_diff
    where week_start >= %(first)s and finalized_at is not null
    group by 1
),
published as (
    select distinct on (week_start) week_start, result
    from weekly_publications
    where week_start >= %(first)s
    order by week_start, revision desc
)
select
    week_start,
    coalesce(f.entrants, 0) as entrants,
    coalesce(f.finalized_at > now() - interval '10 minutes', false) as recent,
    p.result
from finalised f
full join published p using (week_start)
order by week_start
