-- The writer does not know whom liveness has marked offline, and writes a worker's row only
-- now and then. A row that says offline holds the last share before that: one that sent a
-- share since, and lately, is online again.
with back as materialized (
    select id, last_share
    from workers_seen
    where not is_online
      and last_share > noted_share
      and last_share > %(now)s - %(fresh)s
      -- Older rows need no look: the writer has written them since.
      and noted_share > %(now)s - %(fresh)s - interval '61 minutes'
),
-- Rows that the writer holds now are skipped: a statement that does not wait is in no deadlock.
free as materialized (
    select id from workers where id in (select id from back) for no key update skip locked
)
update workers w set is_online = true, last_share = b.last_share
from back b
join free using (id)
where w.id = b.id and not w.is_online and b.last_share > w.last_share
