"""What miners' tools may ask: reads the database and the streams, and writes nothing."""
