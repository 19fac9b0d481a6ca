-- depends: 0021b_bounded
-- A cell is engines, receivers, streams and one writer, under one name; '' where there is one.

alter table stream_offsets
    add column cell text not null default '',
    -- What waits in Redis, for those that do not reach it: everything that came before looked_at
    -- (by that Redis's clock) is committed, but what has come since waits_since, if that is set.
    add column looked_at timestamptz,
    add column waits_since timestamptz,
    drop constraint stream_offsets_pkey,
    add primary key (cell, consumer, stream);

-- Where the boot's events came from last.
alter table engine_instances add column cell text not null default '';

-- As in 0014_endings. A boot follows another of its engine in its cell: engines of two cells
-- may have one name.
create or replace view engine_endings as
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

comment on column stream_offsets.cell is 'cell of the streams; empty where it has no name';
comment on column stream_offsets.looked_at is 'until when the writer knows what waits, by the clock of Redis';
comment on column stream_offsets.waits_since is 'since when an entry has waited to be committed; null if none did';
comment on column engine_instances.cell is 'cell of the newest event; empty where it has no name';
comment on column engine_endings.cell is 'its cell; empty where it has no name';
