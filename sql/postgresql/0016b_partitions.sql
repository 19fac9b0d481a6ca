-- depends: 0013_rollup
-- Partitions are made and dropped beside open readers and a writer that goes on.

-- Makes the partitions of shares and mining_events for every day of the span,
-- both ends included, and returns how many it made. Safe to repeat, and safe from
-- several connections at once: they queue on an advisory lock, unless there is nothing to do.
-- A partition is made apart and then attached: that waits for no reader and no writer, and
-- none of them waits for it. A day that housekeeping had detached, and not dropped yet, is
-- attached again with its rows. One that is being detached stays away.
create or replace function ensure_partitions(first_day date, last_day date) returns integer
language plpgsql as $$
declare
    day date := first_day;
    parent text;
    name text;
    locked boolean := false;
    made integer := 0;
begin
    while day <= last_day loop
        foreach parent in array array['shares', 'mining_events'] loop
            name := parent || '_p' || to_char(day, 'YYYYMMDD');
            if exists (
                select from pg_inherits
                where inhparent = parent::regclass and inhrelid = to_regclass(format('%I', name))
            ) then
                continue;
            end if;
            if not locked then
                perform pg_advisory_xact_lock(hashtext('tbg partitions'));
                locked := true;
                if exists (
                    select from pg_inherits
                    where inhparent = parent::regclass
                      and inhrelid = to_regclass(format('%I', name))
                ) then
                    continue;
                end if;
            end if;
            if to_regclass(format('%I', name)) is null then
                execute format('create table %I (like %I including all)', name, parent);
            end if;
            execute format(
                'alter table %I attach partition %I for values from (%L) to (%L)',
                parent,
                name,
                day::timestamp at time zone 'UTC',
                (day + 1)::timestamp at time zone 'UTC'
            );
            made := made + 1;
        end loop;
        day := day + 1;
    end loop;
    return made;
end
$$;

-- Drops every partition of shares and mining_events that ended before keep_from, and returns
-- the names of those it dropped: for a person. (Housekeeping drops a day at a time, and detaches
-- it first.) It needs every reader of the table to be gone for a moment; it asks for a tenth
-- of a second, so that no writer waits for longer behind it, and tries again for ten.
create or replace function drop_partitions(keep_from date) returns setof text
language plpgsql
set lock_timeout = '100ms'
as $$
declare
    name text;
    holding boolean := false;
begin
    <<partitions>>
    for name in
        select child.relname
        from pg_inherits
        join pg_class child on child.oid = inhrelid
        where inhparent in ('shares'::regclass, 'mining_events'::regclass)
          -- As text: a date would be read from every name of the catalog, as the
          -- planner likes.
          and child.relname ~ '_p[0-9]{8}$'
          and right(child.relname, 8) < to_char(keep_from, 'YYYYMMDD')
        order by child.relname
    loop
        for try in 1..25 loop
            begin
                execute format('drop table %I', name);
                holding := true;
                return next name;
                exit;
            exception when lock_not_available then
                -- Not while a partition that was dropped before keeps everybody waiting.
                exit partitions when holding;
                perform pg_sleep(0.2 + random() * 0.2);
            end;
        end loop;
    end loop;
end
$$;
