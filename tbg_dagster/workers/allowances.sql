-- Keeps how long workers may be silent, of those that were looked at and may be.
insert into worker_allowances as p (worker_id, allowed, difficulty, judged_at)
select worker, make_interval(secs => seconds), difficulty, %(now)s
from unnest(%(workers)s::integer[], %(seconds)s::double precision[],
    %(difficulties)s::double precision[]) as judged (worker, seconds, difficulty)
on conflict (worker_id) do update set
    allowed = excluded.allowed,
    difficulty = excluded.difficulty,
    judged_at = excluded.judged_at
