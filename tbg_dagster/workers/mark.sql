-- A worker whose return was too short to report is silent again: the same incident.
insert into worker_liveness as l (
    worker_id, silent_since, marked_at, expected_gap_seconds, allowed_gap_seconds
)
values (%(worker)s, %(since)s, %(now)s, %(expected)s, %(allowed)s)
on conflict (worker_id) do update set
    silent_since = excluded.silent_since,
    marked_at = excluded.marked_at,
    expected_gap_seconds = excluded.expected_gap_seconds,
    allowed_gap_seconds = excluded.allowed_gap_seconds,
    back_since = null
