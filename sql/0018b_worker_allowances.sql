-- depends: 0001_core
-- How long each worker may be silent, as it was judged last: until half of it has passed, or
-- the row has grown old, or the difficulty is another, nobody looks at the worker's shares.

create table worker_allowances (
    worker_id  integer primary key references workers,
    allowed    interval not null,
    difficulty double precision,
    judged_at  timestamptz not null
);
