select distinct week_start
from weekly_best_diff
where week_start >= %(first)s and week_start < %(end)s and finalized_at is not null
order by week_start
