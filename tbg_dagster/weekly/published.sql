-- Weeks from the first on that were published: how many users have a result, whether it is
-- minutes old, and what was published last.
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
from published p
left join finalised f using (week_start)
order by week_start
