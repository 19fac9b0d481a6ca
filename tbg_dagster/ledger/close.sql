-- Closes the hours of [start, end) as the ledger has them now, again and again.
insert into share_ledger (
    hour, instance_id, emitted, received, published, committed, dead_lettered, duplicates,
    dropped, dropped_by_cause, missing, unexplained
)
select
    hour, instance_id, emitted, received, published, committed, dead_lettered, duplicates,
    dropped, dropped_by_cause, missing, unexplained
from ledger_hours
where hour >= %(start)s and hour < %(end)s
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
