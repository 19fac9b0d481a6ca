"""Our own interface: ``/v1``."""
