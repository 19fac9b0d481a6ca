-- depends: 0004_batch
-- What a check of a sample or of the last while has found wrong, and not seen right since: it
-- looks there again, wherever else it looks.

create table check_faults (
    check_name text not null,
    place      text not null,  -- an hour, a span, a day, a week, an engine boot
    found_at   timestamptz not null default now(),
    primary key (check_name, place)
);
