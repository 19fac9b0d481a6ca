-- A difficulty is a rounded quotient: the last digits say nothing.
select count(*) as weak
from shares
where time >= %(start)s and time < %(end)s
  and is_valid
  and share_diff < difficulty * (1 - 1e-9)
