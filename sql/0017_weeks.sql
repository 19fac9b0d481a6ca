-- depends: 0012_standings
-- A week is done when it was published, and a person may release one.

-- How many late shares of an hour the last computation took in. They count as settled once
-- what follows from it has happened too: the statistics of the day, the news of the week.
alter table late_share_hours
    add column computed_daily  bigint not null default 0,
    add column computed_weekly bigint not null default 0;

-- Shares among a week's first ten whose proof fails, and that a person let pass: these
-- alone, so that another one that fails later is held back again.
create table week_releases (
    week_start  date not null,
    share_hash  bytea not null,
    user_id     integer not null references users,
    failure     text not null,  -- what did not hold
    released_by text not null,
    reason      text not null,
    released_at timestamptz not null default now(),
    primary key (week_start, share_hash, user_id)
);

-- When each block was the tip, as our engines saw it; replaced_at is null for the last one.
-- The message of the block after it may be lost: then a later one replaced it. A block that
-- came before is of another chain (a devnet that began again).
create or replace view network_tips as
select
    b.hash,
    b.height,
    b.seen_at,
    (
        select n.seen_at from network_blocks n
        where n.height > b.height and n.seen_at >= b.seen_at
        order by n.height, n.seen_at
        limit 1
    ) as replaced_at
from network_blocks b;
