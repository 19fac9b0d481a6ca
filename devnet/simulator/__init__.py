"""A fleet of virtual miners that emits all eight events without hashing anything."""
