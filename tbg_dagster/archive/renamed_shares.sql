-- What the database has under another name of its user or worker is not missing: the engine's number
-- says that it is the same share.
delete from missing_shares m
using named_shares s
where s.time >= %(start)s and s.time < %(end)s
  and s.time = m.time and s.instance = m.instance and s.seq = m.seq
  and s.share_hash is not distinct from m.share_hash
