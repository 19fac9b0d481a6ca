"""Workers: what each did in a day, and whether it is still there."""
