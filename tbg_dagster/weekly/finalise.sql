-- Writes the result of a closed week from its hours, and nothing where the result is
-- there already. The hours name the user's best difficulty and its hour; the share itself
-- is looked up there.
--
-- A tie within a user goes to the earlier share, and between users as well.
--
-- total_work is the sum of the hours' work, each taken to 15 digits and added as numeric,
-- so that no order matters. The hours themselves are sums of doubles: rebuilt, their last
-- bit may differ. A result that differs by no more than that stands.
--
-- Shares of hours in which an engine's clock was wrong are left out until a person decides.
-- These hours alone are added up from the raw shares.
with left_out as (
    select hour, instance_id from skewed_hours
    where hour >= %(start)s and hour < %(end)s and decision is distinct from 'keep'
),
rolled as not materialized (
    select bucket, user_id, worker_id, accepted, work, best_share_diff
    from shares_hourly
    where bucket >= %(start)s and bucket < %(end)s and accepted > 0
      and bucket not in (select hour from left_out)
    union all
    select
        m.hour,
        s.user_id,
        s.worker_id,
        count(*),
        sum(bounded(s.difficulty)),
        max(s.share_diff)
    from (select distinct hour from left_out) m
    join shares s on s.time >= m.hour and s.time < m.hour + interval '1 hour'
    where s.time >= %(start)s and s.time < %(end)s and s.is_valid
      and not exists (
          select from left_out l
          where l.hour = m.hour and l.instance_id = coalesce(s.instance_id, 0)
      )
    group by 1, 2, 3
),
per_user as materialized (
    select
        user_id,
        max(best_share_diff) as best_difficulty,
        sum(accepted)::bigint as total_shares,
        sum(least(work, 1e290)::numeric)::double precision as total_work
    from rolled
    group by user_id
),
-- The workers that reached the best difficulty in its first hour: one, or some that tie.
candidates as materialized (
    select *
    from (
        select
            r.user_id,
            r.worker_id,
            r.bucket,
            p.best_difficulty,
            rank() over (partition by r.user_id order by r.bucket) as place
        from per_user p
        join rolled r on r.user_id = p.user_id and r.best_share_diff = p.best_difficulty
    ) reached
    where place = 1
),
best as materialized (
    select distinct on (c.user_id)
        c.user_id,
        c.best_difficulty,
        s.time as best_share_time,
        c.worker_id as best_worker_id,
        s.share_hash as best_share_hash
    from candidates c
    left join lateral (
        select s.time, s.share_hash
        from shares s
        where s.worker_id = c.worker_id and s.user_id = c.user_id
          and s.time >= c.bucket and s.time < c.bucket + interval '1 hour'
          and s.time >= %(start)s and s.time < %(end)s
          and s.is_valid and s.share_diff = c.best_difficulty
          and not exists (
              select from left_out l
              where l.hour = c.bucket and l.instance_id = coalesce(s.instance_id, 0)
          )
        order by s.time, s.share_hash
        limit 1
    ) s on true
    order by c.user_id, s.time, c.worker_id, s.share_hash
),
final as materialized (
    select
        b.*,
        p.total_shares,
        p.total_work,
        (row_number() over (order by b.best_difficulty desc, b.best_share_time, b.user_id))
            ::integer as rank
    from best b
    join per_user p using (user_id)
    where b.best_share_time is not null
),
removed as (
    delete from weekly_best_diff w
    where w.week_start = %(week)s and not exists (select from final f where f.user_id = w.user_id)
    returning 1
),
written as (
    insert into weekly_best_diff as w (
        user_id, week_start, best_difficulty, best_share_time, best_worker_id,
        best_share_hash, total_shares, total_work, finalized_at, rank
    )
    select
        user_id, %(week)s, best_difficulty, best_share_time, best_worker_id,
        best_share_hash, total_shares, total_work, now(), rank
    from final
    order by user_id  -- as the writer, which may be raising late bests of this week
    on conflict (user_id, week_start) do update set
        best_difficulty = excluded.best_difficulty,
        best_share_time = excluded.best_share_time,
        best_worker_id = excluded.best_worker_id,
        best_share_hash = excluded.best_share_hash,
        total_shares = excluded.total_shares,
        total_work = excluded.total_work,
        finalized_at = excluded.finalized_at,
        rank = excluded.rank
    where w.finalized_at is null
        or (
            w.best_difficulty, w.best_share_time, w.best_worker_id, w.best_share_hash,
            w.total_shares, w.rank
        ) is distinct from (
            excluded.best_difficulty, excluded.best_share_time, excluded.best_worker_id,
            excluded.best_share_hash, excluded.total_shares, excluded.rank
        )
        or abs(w.total_work - excluded.total_work) > 1e-12 * abs(excluded.total_work)
    returning 1
)
select
    (select count(*) from final) as users,
    (select coalesce(sum(total_shares), 0)::bigint from final) as shares,
    (select count(*) from best where best_share_time is null) as not_found,
    (select count(*) from written) as written,
    (select count(*) from removed) as removed
