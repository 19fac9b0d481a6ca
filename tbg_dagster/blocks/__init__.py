"""Blocks of ours on their way to final, and how long the next will take."""
