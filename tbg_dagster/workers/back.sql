-- The writer marks a worker online with its next share. One that was not reported is
-- forgotten; the others must stay for a while.
with gone as (
    delete from worker_liveness l
    using workers w
    where w.id = l.worker_id and w.is_online and l.alerted_at is null
)
update worker_liveness l
set back_since = coalesce(l.back_since, %(now)s)
from workers w
where w.id = l.worker_id and w.is_online and l.alerted_at is not null and l.back_since is null
