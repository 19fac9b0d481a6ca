-- depends: 0004_batch
-- The books by conservation: what an engine emitted and what is neither stored nor
-- refused is missing, whatever the sequence state says.

-- Which numbers below seq_floor were seen is not in seq_missing any more: a broken engine
-- left more holes than are remembered, and the writer asks the tables instead.
alter table engine_instances add column seq_floor bigint not null default 0;

create index dead_letters_number on dead_letters (instance, seq);

-- Which numbers of each instance are stored, by the events' own time in
-- [range_start, range_end): counted from the rows, apart from every other book.
create function stored_numbers(range_start timestamptz, range_end timestamptz)
returns table (instance_id integer, events bigint, numbers int8multirange)
language sql stable as $$
    select instance_id, count(*), range_agg(int8range(seq, seq, '[]'))
    from (
        select instance_id, seq from shares
        where time >= range_start and time < range_end
        union all
        select instance_id, seq from mining_events
        where time >= range_start and time < range_end
    ) stored
    where instance_id is not null and seq is not null and seq < 9223372036854775807
    group by 1
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
