"""The realtime daemon: every share from the event socket to the hypertable."""
