-- depends: 0009_bests
-- The books by conservation, counted from the rows: what an engine emitted and what is neither
-- stored nor refused is missing, whatever the sequence state says.

-- Which numbers of each boot are stored, by the events' own time from range_start on: counted
-- from the rows, apart from every other book. Runs of numbers are found by sorting, which needs
-- disk and not memory where there are many.
create function stored_numbers(range_start timestamptz)
returns table (instance_id integer, events bigint, numbers int8multirange)
language sql stable as $$
    with stored as (
        select instance_id, seq, count(*) as times
        from (
            select instance_id, seq from shares where time >= range_start
            union all
            select instance_id, seq from mining_events where time >= range_start
        ) numbered
        where instance_id is not null and seq is not null and seq < 9223372036854775807
        group by 1, 2
    ),
    runs as (
        select
            instance_id,
            seq,
            times,
            seq - row_number() over (partition by instance_id order by seq) as run
        from stored
    ),
    spans as (
        select instance_id, sum(times) as events, int8range(min(seq), max(seq), '[]') as span
        from runs
        group by instance_id, run
    )
    select instance_id, sum(events)::bigint, range_agg(span) from spans group by 1
$$;

-- What became of the numbers that each boot emitted from range_start (a full hour) on, counted
-- from the rows. Without range_start: on every day that has a place for raw rows. So an old day that
-- has lost all of its rows is seen, and days that were dropped beside one that was restored are no
-- loss. What the books know to be stored nowhere is looked at whenever it was.
--
-- absent: numbers that the sequence state does not miss and that no row has. Some of them
-- may have been refused, and their dead letters expired: as many as expired says.
-- doubled: rows beyond the first of their number.
create function audit_numbers(range_start timestamptz default null)
returns table (
    instance_id integer,
    instance text,
    emitted bigint,
    stored bigint,
    refused bigint,
    dropped bigint,
    missing bigint,
    doubled bigint,
    expired bigint,
    absent int8multirange
)
language sql stable as $$
    with raw as materialized (
        select day from raw_days() as day
    ),
    never_stored as materialized (
        select l.instance_id from ledger l group by 1 having sum(l.committed) = 0
    ),
    boots as materialized (
        select instance_id, instance, holes, drops from engine_boots()
    ),
    spans as (
        select
            h.instance_id,
            sum(dead_lettered) as dead_lettered,
            range_agg(int8range(seq_before + 1, seq_upto + 1)) as numbers
        from ledger_spans() h
        where case
            when range_start is not null then hour >= range_start
            else (hour at time zone 'UTC')::date in (select day from raw)
                or h.instance_id in (select n.instance_id from never_stored n)
        end
        group by 1
    ),
    letters as (
        select i.id as instance_id, range_agg(int8range(d.seq, d.seq, '[]')) as numbers
        from dead_letters d
        join engine_instances i on i.instance = d.instance
        where d.seq < 9223372036854775807
        group by 1
    ),
    sets as (
        select
            s.instance_id,
            b.instance,
            numbers_in(s.numbers) as emitted,
            s.dead_lettered,
            coalesce(r.events, 0) - numbers_in(coalesce(r.numbers, '{}')) as doubled,
            s.numbers * coalesce(r.numbers, '{}') as stored,
            s.numbers * coalesce(l.numbers, '{}') - coalesce(r.numbers, '{}') as refused,
            s.numbers * b.holes - coalesce(r.numbers, '{}') as holes,
            b.drops,
            s.numbers - coalesce(r.numbers, '{}') - coalesce(l.numbers, '{}') - b.holes as absent
        from spans s
        join boots b on b.instance_id = s.instance_id
        left join stored_numbers(coalesce(range_start, '-infinity')) r
            on r.instance_id = s.instance_id
        left join letters l on l.instance_id = s.instance_id
    )
    select
        instance_id,
        instance,
        emitted,
        numbers_in(stored),
        numbers_in(refused),
        numbers_in(holes * drops),
        numbers_in(holes - drops),
        doubled,
        greatest(dead_lettered - numbers_in(refused), 0)::bigint,
        absent
    from sets
$$;
