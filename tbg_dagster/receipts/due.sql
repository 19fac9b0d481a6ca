-- The trees that the closed ledger before the end has numbers for, and that are not there or were
-- built on other books; and those of hours that a person has named.
with latest as (
    select distinct on (hour, instance_id) *
    from receipt_trees
    order by hour, instance_id, revision desc
)
select
    s.hour,
    s.instance_id,
    i.instance,
    s.seq_before + 1 as first_seq,
    s.seq_upto as last_seq,
    b.books,
    t.revision
from ledger_spans() s
join share_ledger c on c.hour = s.hour and c.instance_id = s.instance_id
join engine_instances i on i.id = s.instance_id
cross join lateral (
    select concat_ws(
        ' ', s.seq_before, s.seq_upto, c.committed, c.dead_lettered, c.missing, c.dropped_by_cause
    ) as books
) b
left join latest t on t.hour = s.hour and t.instance_id = s.instance_id
where s.hour < %(end)s
  and (s.hour at time zone 'UTC')::date = any(%(with_rows)s)
  and case
    when t.hour is null then s.seq_upto > s.seq_before
    else t.books <> b.books
        or s.hour = any(%(again)s)
        or exists (
            select from dead_letters d
            where d.instance = i.instance and d.replayed_at is not null
              and d.seq < 9223372036854775807 and t.refused @> d.seq
        )
  end
order by s.hour, i.instance
