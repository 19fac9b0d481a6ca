-- Closes the hours of [start, end) as the ledger has them now, again and again, and
-- every hour before them whose books have changed since it was closed: an event that
-- waited in a spool may come hours later, or be the first that is heard of an hour.
insert into share_ledger (
    hour, instance_id, emitted, received, published, committed, dead_lettered, duplicates,
    dropped, dropped_by_cause, missing, unexplained
)
select
    l.hour, l.instance_id, l.emitted, l.received, l.published, l.committed, l.dead_lettered,
    l.duplicates, l.dropped, l.dropped_by_cause, l.missing, l.unexplained
from ledger_hours l
left join share_ledger c using (hour, instance_id)
where hour < %(end)s
  and (
    hour >= %(start)s
    or (
        l.emitted, l.received, l.published, l.committed, l.dead_lettered, l.duplicates,
        l.dropped, l.dropped_by_cause, l.missing, l.unexplained
    ) is distinct from (
        c.emitted, c.received, c.published, c.committed, c.dead_lettered, c.duplicates,
        c.dropped, c.dropped_by_cause, c.missing, c.unexplained
    )
  )
order by hour, instance_id  -- two runs at once lock the rows in one order
on conflict (hour, instance_id) do update set
    emitted = excluded.emitted,
    received = excluded.received,
    published = excluded.published,
    committed = excluded.committed,
    dead_lettered = excluded.dead_lettered,
    duplicates = excluded.duplicates,
    dropped = excluded.dropped,
    dropped_by_cause = excluded.dropped_by_cause,
    missing = excluded.missing,
    unexplained = excluded.unexplained,
    closed_at = now()
