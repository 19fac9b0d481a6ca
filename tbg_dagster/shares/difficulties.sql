-- Accepted shares of a span by achieved difficulty: how many per power of two, and
-- how many the law promises. A share judged at difficulty d reaches x >= d with
-- probability d / x, so sum(d) / x shares reach x once x is above every d.
select
    floor(ln(bounded(share_diff)) / ln(2.0) * 2) / 2 as exponent,
    count(*) as shares,
    sum(bounded(difficulty)) as work,
    max(bounded(difficulty)) as highest_difficulty
from shares
where time >= %(start)s and time < %(end)s and is_valid and share_diff > 0
group by 1
order by 1
