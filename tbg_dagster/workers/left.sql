-- Workers that disconnected since the last run. One whose return was too short to report
-- is gone again: the same incident. Those gone for long are not reported.
insert into worker_liveness as l (worker_id, silent_since, marked_at, allowed_gap_seconds)
select w.id, coalesce(w.last_share, w.first_seen), %(now)s, 0
from workers w
where not w.is_online
  and coalesce(w.last_share, w.first_seen) > %(now)s - %(forgotten)s
on conflict (worker_id) do update set
    silent_since = excluded.silent_since,
    marked_at = excluded.marked_at,
    expected_gap_seconds = null,
    allowed_gap_seconds = 0,
    back_since = null
where l.back_since is not null
