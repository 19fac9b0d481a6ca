"""Reads the share logs of an unmodified ckpool, and sends them as numbered events."""
