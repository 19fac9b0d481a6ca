"""The tbg command, the settings all commands share, and the embedded stack."""
