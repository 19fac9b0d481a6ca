-- Engine boots with sequence numbers that were never seen and that no dead letter has.
select b.instance_id as id, b.instance, i.source, gap.missing - coalesce(refused.letters, 0) as missing
from engine_boots() b
join engine_instances i on i.id = b.instance_id
cross join lateral (select numbers_in(b.holes) as missing) gap
left join lateral (
    select count(distinct d.seq) as letters
    from dead_letters d
    where d.instance = b.instance and d.seq <@ b.holes
) refused on true
where not isempty(b.holes)
  and greatest(i.last_seen, i.declared_at) > now() - make_interval(days => %(days)s)
  and gap.missing > coalesce(refused.letters, 0)
order by missing desc
