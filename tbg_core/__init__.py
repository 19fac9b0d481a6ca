"""What more than one room must agree on; it imports nothing of ours."""
