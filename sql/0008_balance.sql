-- depends: 0007_judgement
-- The books by conservation: what an engine emitted and what is neither stored nor
-- refused is missing, whatever the sequence state says.

-- Which numbers below seq_floor were seen is not in seq_missing any more: a broken engine
-- left more holes than are remembered, and the writer asks the tables instead.
alter table engine_instances add column seq_floor bigint not null default 0;

-- By how many microseconds the events' own time was ahead of the receiver's when they came:
-- the lowest and the highest of some samples. A clock that is wrong shows here at once.
alter table ledger
    add column skew_min bigint,
    add column skew_max bigint;

create index dead_letters_number on dead_letters (instance, seq);

-- How many numbers a set holds.
create function numbers_in(numbers int8multirange) returns bigint
language sql immutable as $$
    select coalesce(sum(upper(span) - lower(span)), 0)::bigint from unnest(numbers) as span
$$;

-- Which numbers of each instance are stored, by the events' own time from range_start on:
-- counted from the rows, apart from every other book. Runs of numbers are found by sorting,
-- which needs disk and not memory where there are many.
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

-- What became of the numbers that each instance emitted from range_start (a full hour) on,
-- counted from the rows. Without range_start: from the oldest day that still has rows.
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
    with start as (
        select coalesce(
            range_start,
            (
                select min(day)
                from (select distinct date_trunc('day', hour, 'UTC') as day from ledger) days
                where exists (
                    select from shares where time >= day and time < day + interval '1 day'
                ) or exists (
                    select from mining_events where time >= day and time < day + interval '1 day'
                )
            ),
            'infinity'
        ) as moment
    ),
    hours as (
        select
            l.*,
            coalesce(max(last_seq) over before, 0) as seq_before,
            coalesce(max(last_seq) over upto, 0) as seq_upto
        from ledger l
        window
            before as (
                partition by l.instance_id order by hour
                rows between unbounded preceding and 1 preceding
            ),
            upto as (
                partition by l.instance_id order by hour
                rows between unbounded preceding and current row
            )
    ),
    spans as (
        select
            h.instance_id,
            sum(dead_lettered) as dead_lettered,
            max(seq_upto) - min(seq_before) as emitted,
            int8multirange(int8range(min(seq_before) + 1, max(seq_upto) + 1)) as numbers
        from hours h, start
        where hour >= start.moment
        group by 1
    ),
    letters as (
        select i.id as instance_id, range_agg(int8range(d.seq, d.seq, '[]')) as numbers
        from dead_letters d
        join engine_instances i on i.instance = d.instance
        where d.seq < 9223372036854775807
        group by 1
    ),
    drops as (
        select d.instance_id, range_agg(d.numbers) as numbers from ledger_drops d group by 1
    ),
    sets as (
        select
            s.instance_id,
            i.instance,
            s.emitted,
            s.dead_lettered,
            coalesce(r.events, 0) - numbers_in(coalesce(r.numbers, '{}')) as doubled,
            s.numbers * coalesce(r.numbers, '{}') as stored,
            s.numbers * coalesce(l.numbers, '{}') - coalesce(r.numbers, '{}') as refused,
            s.numbers * i.seq_missing - coalesce(r.numbers, '{}') as holes,
            coalesce(d.numbers, '{}') as drops,
            s.numbers - coalesce(r.numbers, '{}') - coalesce(l.numbers, '{}') - i.seq_missing
                as absent
        from spans s
        join engine_instances i on i.id = s.instance_id
        left join stored_numbers((select moment from start)) r on r.instance_id = s.instance_id
        left join letters l on l.instance_id = s.instance_id
        left join drops d on d.instance_id = s.instance_id
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

-- The share ledger, by instance and hour. Numbers run on from hour to hour, so what
-- an hour emitted is what lies between the highest number before it and its own
-- highest. Missing is what of that is neither committed nor dead-lettered: the holes in
-- the numbers, and any number that the sequence state takes for stored and that was never
-- counted. What is missing and was not reported as dropped is unexplained.
create or replace view ledger_hours as
with spans as (
    select
        l.*,
        coalesce(max(last_seq) over before, 0) as seq_before,
        coalesce(max(last_seq) over upto, 0) as seq_upto
    from ledger l
    window
        before as (
            partition by instance_id order by hour
            rows between unbounded preceding and 1 preceding
        ),
        upto as (
            partition by instance_id order by hour
            rows between unbounded preceding and current row
        )
),
holes as (
    select
        s.instance_id,
        s.hour,
        i.seq_missing * int8multirange(int8range(s.seq_before + 1, s.seq_upto + 1)) as numbers
    from spans s
    join engine_instances i on i.id = s.instance_id
    where not isempty(i.seq_missing)
),
skipped as (
    select instance_id, hour, sum(upper(hole) - lower(hole))::bigint as events
    from holes, unnest(numbers) as hole
    group by 1, 2
),
-- Up to the end of each hour: what was emitted and is neither stored, nor refused, nor a
-- hole.
running as (
    select
        instance_id,
        hour,
        sum(
            s.seq_upto - s.seq_before - s.committed - s.dead_lettered - coalesce(k.events, 0)
        ) over (partition by instance_id order by hour) as unaccounted
    from spans s
    left join skipped k using (instance_id, hour)
),
-- An event next to the full hour, or one that was refused later, may count for another
-- hour than its number does: only what no later hour makes good is lost.
lasting as (
    select
        instance_id,
        hour,
        min(unaccounted) over (
            partition by instance_id order by hour
            rows between current row and unbounded following
        ) as unaccounted
    from running
),
missing as (
    select
        l.instance_id,
        l.hour,
        coalesce(k.events, 0) + (
            l.unaccounted
            - coalesce(lag(l.unaccounted) over (partition by l.instance_id order by l.hour), 0)
        )::bigint as events
    from lasting l
    left join skipped k using (instance_id, hour)
),
causes as (
    select h.instance_id, h.hour, d.cause, sum(upper(lost) - lower(lost))::bigint as events
    from holes h
    join ledger_drops d on d.instance_id = h.instance_id
    cross join lateral unnest(h.numbers * d.numbers) as lost
    group by 1, 2, 3
),
explained as (
    -- A number may have been dropped twice, for two causes: it is missing once.
    select h.instance_id, h.hour, sum(upper(lost) - lower(lost))::bigint as events
    from holes h
    join (
        select instance_id, range_agg(numbers) as numbers from ledger_drops group by 1
    ) d on d.instance_id = h.instance_id
    cross join lateral unnest(h.numbers * d.numbers) as lost
    group by 1, 2
),
drops as (
    select
        instance_id,
        hour,
        e.events as dropped,
        jsonb_object_agg(c.cause, c.events) as dropped_by_cause
    from explained e
    join causes c using (instance_id, hour)
    group by 1, 2, 3
)
select
    i.instance,
    i.source,
    s.instance_id,
    s.hour,
    s.seq_upto - s.seq_before as emitted,
    s.received,
    s.committed + s.dead_lettered + s.duplicates as published,
    s.committed,
    s.dead_lettered,
    s.duplicates,
    coalesce(d.dropped, 0) as dropped,
    coalesce(d.dropped_by_cause, '{}') as dropped_by_cause,
    m.events as missing,
    m.events - coalesce(d.dropped, 0) as unexplained
from spans s
join engine_instances i on i.id = s.instance_id
join missing m using (instance_id, hour)
left join drops d using (instance_id, hour);
