-- depends: 0012_standings
-- The end of a boot has a witness. What an engine boot emitted is the greatest of what is
-- stored or refused, what was dropped, what a receiver read from the socket, and what the engine
-- says itself (engine_status). Everything that computes it reads engine_boots().

alter table engine_instances
    add column seq_declared bigint not null default 0,  -- the highest number, as the engine says
    add column unsent bigint,        -- numbers that it never handed to the socket, as it says
    add column state text check (state in ('running', 'ended', 'crashed')),  -- null: it said none
    add column declared_at timestamptz;  -- when that was stored

-- The highest number that a receiver read of the hour.
alter table ledger add column seq_read bigint;

-- holes: numbers that the boot gave and that are neither stored nor refused, the ones after the
-- last that came among them. drops: numbers that were lost where it was counted.
create function engine_boots()
returns table (
    instance_id integer,
    instance text,
    source varchar,
    seq_emitted bigint,
    holes int8multirange,
    drops int8multirange
)
language sql stable as $$
    select
        i.id as instance_id,
        i.instance,
        i.source,
        e.seq_emitted,
        i.seq_missing + int8multirange(int8range(i.seq_max + 1, e.seq_emitted + 1)) as holes,
        coalesce(d.numbers, '{}') as drops
    from engine_instances i
    left join (
        select instance_id, max(seq_read) as seq_read from ledger group by 1
    ) r on r.instance_id = i.id
    left join (
        select instance_id, range_agg(numbers) as numbers from ledger_drops group by 1
    ) d on d.instance_id = i.id
    cross join lateral (
        select greatest(i.seq_max, i.seq_declared, r.seq_read, upper(d.numbers) - 1) as seq_emitted
    ) e
$$;

-- How each boot ended. unknown: it is over, and nobody vouches for its last number; what it
-- emitted is at least seq_emitted. A boot is over when a newer one of its engine is there and
-- nothing was heard of it for a minute, or when nothing was heard for an hour (for a day, of an
-- engine that never says how it is: it may have no miners).
create view engine_endings as
with boots as (
    select
        b.instance_id,
        b.instance,
        b.seq_emitted,
        i.seq_declared,
        i.unsent,
        i.state,
        greatest(i.last_seen, i.declared_at) as heard_at,
        lead(i.id) over (
            partition by regexp_replace(i.instance, '/[^/]*$', '')
            order by substring(i.instance from '/([0-9]{1,18})$')::bigint nulls first, i.id
        ) is not null as followed
    from engine_boots() b
    join engine_instances i on i.id = b.instance_id
)
select
    instance_id,
    instance,
    seq_emitted,
    unsent,
    state,
    heard_at,
    case
        when state = 'ended' and seq_declared = seq_emitted then 'ended'
        when state = 'crashed' then 'unknown'
        when heard_at > now() - interval '1 minute' then 'running'
        when followed then 'unknown'
        when heard_at > now() - interval '1 hour' then 'running'
        when state is null and heard_at > now() - interval '1 day' then 'running'
        else 'unknown'
    end as ending
from boots;

-- The hours of each boot with the numbers that lie in them. Numbers run on from hour to hour;
-- what nobody stored at the end of a boot lies in its last hour.
create function ledger_spans()
returns table (
    instance_id integer,
    hour timestamptz,
    received bigint,
    committed bigint,
    dead_lettered bigint,
    duplicates bigint,
    seq_before bigint,
    seq_upto bigint
)
language sql stable as $$
    with boots as materialized (
        select instance_id, seq_emitted from engine_boots()
    ),
    hours as (
        select
            l.*,
            coalesce(max(greatest(last_seq, seq_read)) over before, 0) as seq_before,
            coalesce(max(greatest(last_seq, seq_read)) over upto, 0) as seq_upto,
            lead(hour) over upto is null as is_last
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
    )
    select
        h.instance_id,
        h.hour,
        h.received,
        h.committed,
        h.dead_lettered,
        h.duplicates,
        h.seq_before,
        case when h.is_last then b.seq_emitted else h.seq_upto end as seq_upto
    from hours h
    join boots b on b.instance_id = h.instance_id
$$;

-- As in 0008_balance, with the numbers at the end of a boot. Each window grows at its end only:
-- PostgreSQL computes one that shrinks at its beginning again for each row.
create or replace view ledger_hours as
with boots as materialized (
    select instance_id, instance, source::varchar(16), holes, drops from engine_boots()
),
spans as materialized (
    select * from ledger_spans()
),
-- A hole finds its hours by a binary search, and may lie in several. Arrays, because a join
-- with the hours would compare each hole with each.
bounds as materialized (
    select
        instance_id,
        array_agg(hour order by hour) as hours,
        array_agg(seq_before order by hour) as befores,
        array_agg(seq_upto order by hour) as uptos
    from spans
    group by 1
),
pieces as materialized (
    select
        b.instance_id,
        n.hours[at] as hour,
        int8range(n.befores[at] + 1, n.uptos[at] + 1) * hole as piece
    from boots b
    join bounds n on n.instance_id = b.instance_id
    cross join lateral unnest(b.holes) as hole
    cross join lateral generate_series(
        width_bucket(lower(hole) - 1, n.uptos) + 1, width_bucket(upper(hole) - 2, n.uptos) + 1
    ) as at
    where n.befores[at] < n.uptos[at]
),
holes as materialized (
    select instance_id, hour, range_agg(piece) as numbers from pieces group by 1, 2
),
skipped as (
    select instance_id, hour, numbers_in(numbers) as events from holes
),
-- Up to the end of each hour: what was emitted and is neither stored, nor refused, nor a
-- hole.
running as (
    select
        instance_id,
        hour,
        coalesce(k.events, 0) as skipped,
        sum(
            s.seq_upto - s.seq_before - s.committed - s.dead_lettered - coalesce(k.events, 0)
        ) over (partition by instance_id order by hour rows unbounded preceding) as unaccounted
    from spans s
    left join skipped k using (instance_id, hour)
),
-- An event next to the full hour, or one that was refused later, may count for another
-- hour than its number does: only what no later hour makes good is lost.
lasting as (
    select
        instance_id,
        hour,
        skipped,
        min(unaccounted) over (
            partition by instance_id order by hour desc rows unbounded preceding
        ) as unaccounted
    from running
),
missing as (
    select
        instance_id,
        hour,
        skipped + (
            unaccounted
            - coalesce(lag(unaccounted) over (partition by instance_id order by hour), 0)
        )::bigint as events
    from lasting
),
causes as (
    select
        h.instance_id,
        h.hour,
        jsonb_object_agg(d.cause, numbers_in(h.numbers * d.numbers)) as events
    from holes h
    join ledger_drops d on d.instance_id = h.instance_id
    where h.numbers && d.numbers
    group by 1, 2
),
explained as (
    -- A number may have been dropped twice, for two causes: it is missing once.
    select h.instance_id, h.hour, numbers_in(h.numbers * b.drops) as events
    from holes h
    join boots b on b.instance_id = h.instance_id
    where h.numbers && b.drops
)
select
    b.instance,
    b.source,
    s.instance_id,
    s.hour,
    s.seq_upto - s.seq_before as emitted,
    s.received,
    s.committed + s.dead_lettered + s.duplicates as published,
    s.committed,
    s.dead_lettered,
    s.duplicates,
    coalesce(e.events, 0) as dropped,
    coalesce(c.events, '{}') as dropped_by_cause,
    m.events as missing,
    m.events - coalesce(e.events, 0) as unexplained
from spans s
join boots b on b.instance_id = s.instance_id
join missing m on m.instance_id = s.instance_id and m.hour = s.hour
left join explained e on e.instance_id = s.instance_id and e.hour = s.hour
left join causes c on c.instance_id = s.instance_id and c.hour = s.hour;

-- As in 0008_balance, with the numbers at the end of a boot. A boot of which nothing was ever
-- stored is in it, too, where no day has rows.
create or replace function audit_numbers(range_start timestamptz default null)
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
    boots as materialized (
        select instance_id, instance, holes, drops from engine_boots()
    ),
    never_stored as (
        select l.instance_id
        from ledger l
        where range_start is null
        group by 1
        having sum(l.committed) = 0
    ),
    spans as (
        select
            h.instance_id,
            sum(dead_lettered) as dead_lettered,
            max(seq_upto) - min(seq_before) as emitted,
            int8multirange(int8range(min(seq_before) + 1, max(seq_upto) + 1)) as numbers
        from ledger_spans() h, start
        where hour >= start.moment
           or h.instance_id in (select n.instance_id from never_stored n)
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
            s.emitted,
            s.dead_lettered,
            coalesce(r.events, 0) - numbers_in(coalesce(r.numbers, '{}')) as doubled,
            s.numbers * coalesce(r.numbers, '{}') as stored,
            s.numbers * coalesce(l.numbers, '{}') - coalesce(r.numbers, '{}') as refused,
            s.numbers * b.holes - coalesce(r.numbers, '{}') as holes,
            b.drops,
            s.numbers - coalesce(r.numbers, '{}') - coalesce(l.numbers, '{}') - b.holes as absent
        from spans s
        join boots b on b.instance_id = s.instance_id
        left join stored_numbers((select moment from start)) r on r.instance_id = s.instance_id
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
