-- depends: 0008_balance
-- Days that were brought back from the archive. Housekeeping drops such a day again once
-- keep_until has passed, and not before.

create table restored_days (
    day         date primary key,
    revision    integer not null,
    restored_at timestamptz not null default now(),
    keep_until  timestamptz not null
);
