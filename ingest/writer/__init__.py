"""The writer: Redis streams → database."""
