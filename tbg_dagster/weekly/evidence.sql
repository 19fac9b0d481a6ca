-- How many shares of a week are there raw, and how many the days know of: fewer raw
-- ones means that retention has begun to drop them.
select
    (select count(*) from shares where time >= %(start)s and time < %(end)s) as raw,
    (select coalesce(sum(shares), 0)::bigint from shares_daily
     where bucket >= %(start)s and bucket < %(end)s) as known
