"""The stack of ``tbg up``: its servers and programs, and what supervises them."""
