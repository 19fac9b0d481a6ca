"""What the realtime side writes, so that the lineage starts at the miner."""
