"""Failed runs and failing checks, told once, and once more when they recover."""
