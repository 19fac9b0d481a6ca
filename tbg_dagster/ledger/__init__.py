"""The share ledger: every event of every engine, hour by hour."""
