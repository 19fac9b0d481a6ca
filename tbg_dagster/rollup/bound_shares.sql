-- Shares from before the contract bounded difficulties: their sums leave the range of a double,
-- and the definition of a continuous aggregate cannot be changed without losing its rows. On
-- plain PostgreSQL the rollup bounds what it adds up.
update shares set difficulty = bounded(difficulty)
where time >= %s and time < %s
  and (difficulty > 2.0::double precision ^ 224 or difficulty < 1e-12)
  and difficulty <> bounded(difficulty)
