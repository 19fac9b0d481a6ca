-- depends: 0002_ledger
-- The weekly game, and the hours that were computed before their last share came.

-- Totals come with the result of a closed week; null until then (see weekly_standings).
create table weekly_best_diff (
    user_id         integer not null references users,
    week_start      date not null,
    best_difficulty double precision not null,
    best_share_time timestamptz not null,
    best_worker_id  integer references workers,
    best_share_hash bytea,
    total_shares    bigint,
    total_work      double precision,
    finalized_at    timestamptz,
    rank            integer,
    primary key (user_id, week_start),
    check (extract(isodow from week_start) = 1)
)
with (fillfactor = 70);

comment on table weekly_best_diff is 'Each user''s best share of each week.';
comment on column weekly_best_diff.user_id is 'the user';
comment on column weekly_best_diff.week_start is 'Monday of the ISO week (UTC)';
comment on column weekly_best_diff.best_difficulty is 'greatest share difficulty';
comment on column weekly_best_diff.best_share_time is 'time of that share';
comment on column weekly_best_diff.best_worker_id is 'its worker';
comment on column weekly_best_diff.best_share_hash is 'its hash';
comment on column weekly_best_diff.total_shares is 'valid shares of the week';
comment on column weekly_best_diff.total_work is 'sum of the difficulty of valid shares';
comment on column weekly_best_diff.finalized_at is 'time of the reset; null while the row is provisional';
comment on column weekly_best_diff.rank is '1 is the winner; null while the row is provisional';

-- The best share of a week is the first entry here.
create index weekly_best_diff_best on weekly_best_diff (week_start, best_difficulty desc);

-- The best shares of all weeks.
create index weekly_best_diff_ever on weekly_best_diff (best_difficulty desc);

-- Weeks with rows that no result has taken in: few of all rows, and asked for often.
create index weekly_best_diff_provisional on weekly_best_diff (week_start)
where finalized_at is null;

-- Revision 1 is the result, each later one a correction of the one before.
create table weekly_publications (
    week_start   date not null,
    revision     integer not null,
    result       jsonb not null,
    published_at timestamptz not null default now(),
    primary key (week_start, revision)
);

comment on table weekly_publications is 'What was published of each week; a correction is the next revision.';
comment on column weekly_publications.week_start is 'Monday of the ISO week (UTC)';
comment on column weekly_publications.revision is '1 for the result, one more for each correction';
comment on column weekly_publications.result is 'what was published, as in docs/messages.md';
comment on column weekly_publications.published_at is 'time of the publication';

-- Shares among a week's first ten whose proof fails, and that a person let pass: these
-- alone, so that another one that fails later is held back again.
create table week_releases (
    week_start  date not null,
    share_hash  bytea not null,
    user_id     integer not null references users,
    failure     text not null,
    released_by text not null,
    reason      text not null,
    released_at timestamptz not null default now(),
    primary key (week_start, share_hash, user_id)
);

comment on table week_releases is 'Bests that a person let pass although their proof fails.';
comment on column week_releases.week_start is 'Monday of the ISO week (UTC)';
comment on column week_releases.share_hash is 'hash of the share';
comment on column week_releases.user_id is 'the user';
comment on column week_releases.failure is 'what failed';
comment on column week_releases.released_by is 'the person';
comment on column week_releases.reason is 'why';
comment on column week_releases.released_at is 'time of the decision';

-- Closed hours that got a share after they had closed. While settled_* is below shares, the batch
-- side must compute them again. computed_* is what the last computation took in; it counts as
-- settled once what follows from it has happened too: the statistics of the day, the news of the
-- week.
create table late_share_hours (
    hour              timestamptz primary key,
    shares            bigint not null,
    first_recorded_at timestamptz not null default now(),
    last_recorded_at  timestamptz not null default now(),
    settled_hourly    bigint not null default 0,
    settled_daily     bigint not null default 0,
    settled_weekly    bigint not null default 0,
    computed_daily    bigint not null default 0,
    computed_weekly   bigint not null default 0
);

comment on table late_share_hours is 'Closed hours that got a share later, and how many of them each rollup has taken in.';
comment on column late_share_hours.hour is 'beginning of the hour';
comment on column late_share_hours.shares is 'late shares';
comment on column late_share_hours.first_recorded_at is 'time of the first';
comment on column late_share_hours.last_recorded_at is 'time of the newest';
comment on column late_share_hours.settled_hourly is 'late shares that the hour''s rollup has';
comment on column late_share_hours.settled_daily is 'late shares that the day''s statistics have';
comment on column late_share_hours.settled_weekly is 'late shares that the published week has';
comment on column late_share_hours.computed_daily is 'late shares that were there when the day''s computation began';
comment on column late_share_hours.computed_weekly is 'late shares that were there when the week''s computation began';

create index late_share_hours_recorded on late_share_hours (last_recorded_at);

create index late_share_hours_unsettled on late_share_hours (hour)
where shares > least(settled_hourly, settled_daily, settled_weekly);

-- How far the rollup has read the raw shares: what is stored later of an hour before that is
-- late. Before the first rollup, what lies before the schema is late.
create table rollup_progress (
    only_row   boolean primary key default true check (only_row),
    read_until timestamptz not null
);

comment on table rollup_progress is 'How far the rollup has read the raw shares; one row.';
comment on column rollup_progress.only_row is 'always true';
comment on column rollup_progress.read_until is 'shares of an hour before it that are stored later are late';

insert into rollup_progress (read_until)
values (date_trunc('hour', now() - interval '2 minutes', 'UTC'));
