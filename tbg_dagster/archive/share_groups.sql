-- The shares of a day, by hour and difficulty: few groups, as difficulties are few.
select
    date_trunc('hour', time, 'UTC') as hour,
    difficulty,
    count(*) as shares,
    count(*) filter (where is_valid) as accepted,
    count(*) filter (where is_block) as blocks,
    max(share_diff) filter (where is_valid) as best
from shares
where time >= %(start)s and time < %(end)s
group by 1, 2
