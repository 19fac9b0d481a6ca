-- depends: 0047_receipt_rows
-- A boot's number comes from its engine's clock, which may be set back between two boots. So a
-- boot with a higher number follows only if it was heard of about as lately, and one that was seen
-- later follows whatever its number is, once it was heard of for longer.
create or replace view engine_endings as
with heard as (
    select
        b.instance_id,
        b.instance,
        b.seq_emitted,
        i.seq_declared,
        i.unsent,
        i.state,
        i.cell,
        i.first_seen,
        greatest(i.last_seen, i.declared_at) as heard_at,
        regexp_replace(i.instance, '/[^/]*$', '') as engine,
        substring(i.instance from '/([0-9]{1,18})$')::bigint as boot
    from engine_boots() b
    join engine_instances i on i.id = b.instance_id
),
boots as (
    select
        heard.*,
        coalesce(max(heard_at) over numbered > heard_at - interval '1 minute', false)
        or coalesce(max(heard_at) over seen > heard_at + interval '1 minute', false) as followed
    from heard
    window
        numbered as (
            partition by cell, engine order by boot desc nulls last, instance_id desc
            rows between unbounded preceding and 1 preceding
        ),
        seen as (
            partition by cell, engine order by first_seen desc, instance_id desc
            rows between unbounded preceding and 1 preceding
        )
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
