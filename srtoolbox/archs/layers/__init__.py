"""Building blocks that two or more networks share; import them from their own modules."""
