-- Weeks whose news waits in the outbox: the run that wrote it could not send it.
select distinct payload ->> 'week_start' as week
from outbox
where sent_at is null and stream = 'mining:weekly_reset'
