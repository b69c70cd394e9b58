"""A tree of results, read: records, settings and what a run's method is."""
