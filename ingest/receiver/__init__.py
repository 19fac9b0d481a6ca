"""The receiver: event socket → Redis streams."""
