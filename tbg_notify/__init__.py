"""The notifier: what the outbox holds for people, brought to their channels.

The batch side posts its messages to the outbox; found blocks and new bests are read
from their tables every two seconds (:mod:`tbg.notify.collect`), which costs the writer
nothing and needs no Dagster run. Each message is planned once for every route
(:mod:`tbg_notify.plan`), and each route delivers its own, at least once
(:mod:`tbg_notify.delivery`).
"""
