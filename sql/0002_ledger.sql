-- depends: 0001_miners
-- Engine boots, what became of every number, and how far the writer has come.

-- One row for each engine boot. seq_max and seq_missing say which events of the boot were seen:
-- everything in 1..seq_max that is not missing. They commit with the rows, so a resent event is
-- known from a new one, and a late one fills its gap. Below seq_floor the writer asks the tables
-- instead: a broken engine left more holes than are remembered.
create table engine_instances (
    id           integer generated always as identity primary key,
    instance     text not null unique,
    source       varchar(16) not null default 'hosted',
    first_seen   timestamptz not null default now(),
    last_seen    timestamptz not null default now(),
    seq_max      bigint not null default 0,
    seq_missing  int8multirange not null default '{}',
    events       bigint not null default 0,
    duplicates   bigint not null default 0,
    seq_floor    bigint not null default 0,
    seq_declared bigint not null default 0,
    unsent       bigint,
    state        text check (state in ('running', 'ended', 'crashed')),
    declared_at  timestamptz,
    cell         text not null default ''
);

comment on table engine_instances is 'Engine boots, and which of their numbers were seen.';
comment on column engine_instances.id is 'number of the engine boot, in this database alone';
comment on column engine_instances.instance is 'name/microseconds of its start';
comment on column engine_instances.source is 'hosted, or simulated';
comment on column engine_instances.first_seen is 'time of the first event that was committed';
comment on column engine_instances.last_seen is 'time of the newest one';
comment on column engine_instances.seq_max is 'highest number that was seen';
comment on column engine_instances.seq_missing is 'numbers below it that were not seen';
comment on column engine_instances.events is 'events that were committed';
comment on column engine_instances.duplicates is 'events that came again';
comment on column engine_instances.seq_floor is 'numbers below it are looked up in the tables instead of seq_missing';
comment on column engine_instances.seq_declared is 'highest number that the engine says it gave; null if it says nothing';
comment on column engine_instances.unsent is 'numbers that were never handed to the socket; null if unknown';
comment on column engine_instances.state is 'running, ended or crashed, as the engine says; null if it says nothing';
comment on column engine_instances.declared_at is 'time of the newest engine status';
comment on column engine_instances.cell is 'cell of the newest event; empty where it has no name';

-- What became of each boot's events, by the hour of their own time: see ledger_hours. Counted in
-- the transaction of the rows. The skew is that of some samples: a clock that is wrong shows there
-- at once.
create table ledger (
    instance_id   integer not null references engine_instances,
    hour          timestamptz not null,
    received      bigint not null default 0,
    first_seq     bigint,
    last_seq      bigint,
    committed     bigint not null default 0,
    dead_lettered bigint not null default 0,
    duplicates    bigint not null default 0,
    skew_min      bigint,
    skew_max      bigint,
    seq_read      bigint,
    primary key (instance_id, hour)
)
with (fillfactor = 70);

comment on table ledger is 'Counts of each engine boot and hour, as receivers and the writer keep them.';
comment on column ledger.instance_id is 'the engine boot';
comment on column ledger.hour is 'beginning of the hour of the events'' own time';
comment on column ledger.received is 'events that receivers read from the socket';
comment on column ledger.first_seq is 'lowest number that was committed or refused';
comment on column ledger.last_seq is 'highest number that was committed or refused';
comment on column ledger.committed is 'events that became rows';
comment on column ledger.dead_lettered is 'events that were refused';
comment on column ledger.duplicates is 'events that came again';
comment on column ledger.skew_min is 'microseconds that the events'' time was ahead of the receiver''s clock: least';
comment on column ledger.skew_max is 'the same: most';
comment on column ledger.seq_read is 'highest number that a receiver read from the socket';

create index ledger_hour on ledger (hour);

-- Losses that were counted where they happened: the numbers of the events that were dropped. One
-- of them that came again after all is in engine_instances.seq_missing no more, and so no loss.
create table ledger_drops (
    instance_id integer not null references engine_instances,
    cause       text not null,
    numbers     int8multirange not null,
    primary key (instance_id, cause)
);

comment on table ledger_drops is 'Numbers that were lost where it was counted.';
comment on column ledger_drops.instance_id is 'the engine boot';
comment on column ledger_drops.cause is 'stage/reason';
comment on column ledger_drops.numbers is 'the numbers';

-- The share ledger as it stood when an hour was closed. Late events change ledger_hours; closing
-- the hour again brings them here.
create table share_ledger (
    hour             timestamptz not null,
    instance_id      integer not null references engine_instances,
    emitted          bigint not null,
    received         bigint not null,
    published        bigint not null,
    committed        bigint not null,
    dead_lettered    bigint not null,
    duplicates       bigint not null,
    dropped          bigint not null,
    dropped_by_cause jsonb not null,
    missing          bigint not null,
    unexplained      bigint not null,
    closed_at        timestamptz not null default now(),
    primary key (hour, instance_id)
);

comment on table share_ledger is 'The share ledger of closed hours; kept for ever.';
comment on column share_ledger.hour is 'beginning of the hour';
comment on column share_ledger.instance_id is 'the engine boot';
comment on column share_ledger.emitted is 'numbers that the engine gave';
comment on column share_ledger.received is 'events that receivers read';
comment on column share_ledger.published is 'events that reached Redis';
comment on column share_ledger.committed is 'events that became rows';
comment on column share_ledger.dead_lettered is 'events that were refused';
comment on column share_ledger.duplicates is 'events that came again';
comment on column share_ledger.dropped is 'events that were lost where it was counted';
comment on column share_ledger.dropped_by_cause is 'the same, by stage/reason';
comment on column share_ledger.missing is 'numbers without a row, a dead letter or a report';
comment on column share_ledger.unexplained is 'missing at the time of closing';
comment on column share_ledger.closed_at is 'time at which it was closed last';

create index share_ledger_unexplained on share_ledger (hour) where unexplained <> 0;

-- Reports of a process come in order.
create table report_processes (
    process   text primary key,
    reports   bigint not null,
    last_seen timestamptz not null default now()
);

comment on table report_processes is 'Receivers'' processes, so that a report counts once.';
comment on column report_processes.process is 'the process';
comment on column report_processes.reports is 'reports of it that were counted';
comment on column report_processes.last_seen is 'time of the newest';

-- What was refused, where, and why. Nothing is refused without a row here, and a refusal can be
-- undone.
create table dead_letters (
    id          bigint generated always as identity primary key,
    received_at timestamptz not null default now(),
    stage       text not null,
    reason      text not null,
    detail      text not null,
    raw         bytea not null,
    instance    text,
    seq         bigint,
    -- Null where the letter has no number, or where the number is another event's.
    counted_in  timestamptz,
    replayed_at timestamptz
);

comment on table dead_letters is 'Events that were refused, with their bytes.';
comment on column dead_letters.id is 'number of the letter';
comment on column dead_letters.received_at is 'time of the refusal';
comment on column dead_letters.stage is 'receiver, writer or notifier';
comment on column dead_letters.reason is 'a word that is counted by';
comment on column dead_letters.detail is 'a sentence';
comment on column dead_letters.raw is 'the datagram, or the entry''s fields';
comment on column dead_letters.instance is 'the engine boot, where it could be read';
comment on column dead_letters.seq is 'its number, where it could be read';
comment on column dead_letters.counted_in is 'hour of the ledger that counts it; null without a number of its own';
comment on column dead_letters.replayed_at is 'time at which it was brought back; null if it was not';

create index dead_letters_time on dead_letters (received_at);

create index dead_letters_number on dead_letters (instance, seq);

-- Hours of an engine boot whose events have times that cannot be. Its shares of such an hour
-- are in no weekly result until a person has decided; then that week is computed again.
create table skewed_hours (
    hour        timestamptz not null,
    instance_id integer not null,
    kind        text not null check (kind in ('ahead', 'behind')),
    noticed_at  timestamptz not null default now(),
    decision    text check (decision in ('keep', 'leave out')),
    primary key (hour, instance_id)
);

comment on table skewed_hours is 'Hours in which an engine gave impossible times.';
comment on column skewed_hours.hour is 'beginning of the hour';
comment on column skewed_hours.instance_id is 'the engine boot; 0 for events that name none';
comment on column skewed_hours.kind is 'ahead or behind: how its times are wrong';
comment on column skewed_hours.noticed_at is 'time at which it was noticed';
comment on column skewed_hours.decision is 'a person''s: keep or leave out; null and left out until then';

-- How far each writer has committed each stream, in the transaction of the rows. By content: an id
-- alone is no identity, because a Redis that lost its last moments gives ids again, and another
-- Redis has other entries. redis is the value of its key mining:identity.
create table stream_offsets (
    consumer    text not null,
    stream      text not null,
    last_id     text not null,
    entries     bigint not null default 0,
    updated_at  timestamptz not null default now(),
    redis       text,
    entry       text,
    unmarked    bigint not null default 0,
    cell        text not null default '',
    -- What waits in Redis, for those that do not reach it: everything that came before looked_at
    -- (by that Redis's clock) is committed, but what has come since waits_since, if that is set.
    looked_at   timestamptz,
    waits_since timestamptz,
    primary key (cell, consumer, stream)
);

comment on table stream_offsets is 'How far each stream is committed, in the transaction of the rows.';
comment on column stream_offsets.consumer is 'name of the writer';
comment on column stream_offsets.stream is 'key of the stream';
comment on column stream_offsets.last_id is 'id of the last committed entry';
comment on column stream_offsets.entries is 'entries that were read since the stream began';
comment on column stream_offsets.updated_at is 'time of the newest commit';
comment on column stream_offsets.redis is 'identity of the Redis that the stream is in';
comment on column stream_offsets.entry is 'digest of the last committed entry';
comment on column stream_offsets.unmarked is 'entries that were committed since the newest mark';
comment on column stream_offsets.cell is 'cell of the streams; empty where it has no name';
comment on column stream_offsets.looked_at is 'until when the writer knows what waits, by the clock of Redis';
comment on column stream_offsets.waits_since is 'since when an entry has waited to be committed; null if none did';

-- Entries that were committed, some of them: the way back where Redis lost the entry of an
-- offset, and how much of a stream is committed. Rows stay for an hour after their entries
-- were trimmed, those of another Redis for thirty days.
create table stream_marks (
    redis        text not null,
    stream       text not null,
    last_id      text not null,
    entry        text not null,
    entries      bigint not null,
    unnumbered   bytea not null,
    committed_at timestamptz not null default now(),
    primary key (redis, stream, last_id)
);

comment on table stream_marks is 'Entries from which a writer can find its way back after Redis lost some.';
comment on column stream_marks.redis is 'identity of the Redis';
comment on column stream_marks.stream is 'key of the stream';
comment on column stream_marks.last_id is 'id of the entry';
comment on column stream_marks.entry is 'digest of the entry';
comment on column stream_marks.entries is 'entries that were committed since the mark before';
comment on column stream_marks.unnumbered is 'digests of events without a number since the mark before';
comment on column stream_marks.committed_at is 'time of the commit';

-- How many numbers a set holds.
create function numbers_in(numbers int8multirange) returns bigint
language sql immutable as $$
    select coalesce(sum(upper(span) - lower(span)), 0)::bigint from unnest(numbers) as span
$$;

-- What an engine boot emitted is the greatest of what is stored or refused, what was dropped,
-- what a receiver read from the socket, and what the engine says itself (engine_status): the end of
-- a boot has a witness. Everything that computes it reads this function.
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
-- engine that never says how it is: it may have no miners). A boot follows another of its engine in
-- its cell: engines of two cells may have one name.
create view engine_endings as
with boots as (
    select
        b.instance_id,
        b.instance,
        b.seq_emitted,
        i.seq_declared,
        i.unsent,
        i.state,
        i.cell,
        greatest(i.last_seen, i.declared_at) as heard_at,
        lead(i.id) over (
            partition by i.cell, regexp_replace(i.instance, '/[^/]*$', '')
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
    end as ending,
    cell
from boots;

comment on view engine_endings is 'How each engine boot ended, as far as anything vouches for it.';
comment on column engine_endings.cell is 'its cell; empty where it has no name';
comment on column engine_endings.instance_id is 'the engine boot';
comment on column engine_endings.instance is 'its name';
comment on column engine_endings.seq_emitted is 'highest number that is known of';
comment on column engine_endings.unsent is 'numbers that were never handed to the socket';
comment on column engine_endings.state is 'as in engine_instances';
comment on column engine_endings.heard_at is 'time of the newest sign of life';
comment on column engine_endings.ending is 'running, ended or unknown';

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

-- The share ledger, by boot and hour. Numbers run on from hour to hour, so what an hour emitted
-- is what lies between the highest number before it and its own highest. Missing is what of that is
-- neither committed nor dead-lettered: the holes in the numbers, and any number that the sequence
-- state takes for stored and that was never counted. What is missing and was not reported as
-- dropped is unexplained.
-- Each window grows at its end only: PostgreSQL computes one that shrinks at its beginning again
-- for each row.
create view ledger_hours as
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

comment on view ledger_hours is 'The share ledger as it is now: what became of every number.';
comment on column ledger_hours.instance is 'the engine boot';
comment on column ledger_hours.source is 'hosted, or simulated';
comment on column ledger_hours.instance_id is 'its number';
comment on column ledger_hours.hour is 'beginning of the hour';
comment on column ledger_hours.emitted is 'numbers that the engine gave';
comment on column ledger_hours.received is 'events that receivers read';
comment on column ledger_hours.published is 'events that reached Redis';
comment on column ledger_hours.committed is 'events that became rows';
comment on column ledger_hours.dead_lettered is 'events that were refused';
comment on column ledger_hours.duplicates is 'events that came again';
comment on column ledger_hours.dropped is 'events that were lost where it was counted';
comment on column ledger_hours.dropped_by_cause is 'the same, by stage/reason';
comment on column ledger_hours.missing is 'numbers without a row, a dead letter or a report';
comment on column ledger_hours.unexplained is 'missing, and the hour has closed';
