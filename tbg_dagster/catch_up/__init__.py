"""What was missed is made up: ticks, failed runs, and shares that came late."""
