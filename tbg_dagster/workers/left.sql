-- Workers that disconnected since the last run. One whose return was too short to report
-- is gone again: the same incident. Those gone for long are not reported, and neither are those
-- that an import brought: they were never here, so they did not leave.
insert into worker_liveness as l (worker_id, silent_since, marked_at, allowed_gap_seconds)
select w.id, coalesce(w.last_share, w.first_seen), %(now)s, 0
from workers w
join users u on u.id = w.user_id
where not w.is_online
  and coalesce(w.last_share, w.first_seen) > %(now)s - %(forgotten)s
  and not exists (
      select from worker_liveness g where g.worker_id = w.id and g.back_since is null
  )
  and (
      coalesce(w.last_share, w.first_seen) > %(now)s - %(fresh)s
      or exists (
          select from mining_events d
          where d.event = 'miner_disconnected'
            and d.payload ->> 'user' = u.btc_address
            and d.payload ->> 'worker' = w.worker_name
            and d.time >= coalesce(w.last_share, w.first_seen)
      )
  )
on conflict (worker_id) do update set
    silent_since = excluded.silent_since,
    marked_at = excluded.marked_at,
    expected_gap_seconds = null,
    allowed_gap_seconds = 0,
    back_since = null
where l.back_since is not null
