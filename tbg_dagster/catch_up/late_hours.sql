-- Hours with late shares that a rollup has not taken in yet. The days follow the hours
-- they are computed from; weeks are computed from the raw shares, after the hours, by
-- which they are checked.
select
    hour,
    shares,
    settled_hourly < shares as hourly,
    settled_hourly >= shares and settled_daily < shares as daily,
    settled_hourly >= shares and settled_weekly < shares as weekly
from late_share_hours
where hour >= %s and shares > least(settled_hourly, settled_daily, settled_weekly)
order by hour
