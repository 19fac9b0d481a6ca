"""Shares by the hour and by the day."""
