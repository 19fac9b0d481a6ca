-- depends: 0008_balance
-- A refusal can be undone.

alter table dead_letters
    -- The hour of the ledger that counts it; null where it has no number, or where the number
    -- is another event's. Of older letters it is not known.
    add column counted_in timestamptz,
    -- When tbg dead-letters replay stored the event after all.
    add column replayed_at timestamptz;
