-- Engine boots with sequence numbers that were never seen and that no dead letter has.
select i.id, i.instance, gap.missing - coalesce(refused.letters, 0) as missing
from engine_instances i
cross join lateral (
    select sum(upper(span) - lower(span))::bigint as missing from unnest(i.seq_missing) as span
) gap
left join lateral (
    select count(distinct d.seq) as letters
    from dead_letters d
    where d.instance = i.instance and d.seq <@ i.seq_missing
) refused on true
where not isempty(i.seq_missing)
  and i.last_seen > now() - make_interval(days => %(days)s)
  and gap.missing > coalesce(refused.letters, 0)
order by missing desc
