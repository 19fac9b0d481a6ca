-- Days of a week whose statistics were not counted from the raw shares as they are now:
-- none yet, or late shares since.
select g.at::date as day
from generate_series(%(week)s::date, %(week)s::date + 6, interval '1 day') as g(at)
where not exists (select from worker_stats_daily d where d.day = g.at::date)
   or exists (
       select from late_share_hours l
       where l.hour >= g.at::date::timestamp at time zone 'UTC'
         and l.hour < (g.at::date + 1)::timestamp at time zone 'UTC'
         and l.shares > l.settled_daily
   )
order by 1
