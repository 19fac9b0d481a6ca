-- Late shares of a week that its last computation has not taken in.
select coalesce(sum(shares - greatest(computed_weekly, settled_weekly)), 0)::bigint as shares
from late_share_hours
where hour >= %(start)s and hour < %(end)s
  and shares > greatest(computed_weekly, settled_weekly)
