"""A run's model as other tools load it."""
