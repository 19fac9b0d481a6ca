-- Hours of [start, end) without a number of any boot, and without a root.
select h as hour
from generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 hour',
    interval '1 hour') as h
where not exists (select from receipt_roots r where r.hour = h)
  and not exists (
      select from ledger_spans() s where s.hour = h and s.seq_upto > s.seq_before
  )
order by h
