-- The writer does not know whom liveness has marked offline, and writes a worker's row only
-- now and then. A row that says offline holds the last share before that: one that sent a
-- share since, and lately, is online again.
update workers w set is_online = true, last_share = s.last_share
from workers_seen s
where s.id = w.id
  and not w.is_online
  and s.last_share > w.last_share
  and s.last_share > %(now)s - %(fresh)s
  -- Whose row is older has no later share in the view: the writer has written it.
  and s.noted_share > %(now)s - %(fresh)s - interval '61 minutes'
  and not s.is_online
