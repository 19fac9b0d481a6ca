-- depends: 0012_standings
-- How far the rollup has read the raw shares: what is stored later of an hour before that is
-- late. One row. Before the first rollup, what lies before this migration is late.
create table rollup_progress (
    only_row   boolean primary key default true check (only_row),
    read_until timestamptz not null
);

insert into rollup_progress (read_until) values (date_trunc('hour', now() - interval '2 minutes', 'UTC'));

-- Weeks with rows that no result has taken in: few of all rows, and asked for often.
create index weekly_best_diff_provisional on weekly_best_diff (week_start)
where finalized_at is null;
