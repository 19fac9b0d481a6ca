"""Asset checks: what must hold, looked at by itself every few minutes."""
