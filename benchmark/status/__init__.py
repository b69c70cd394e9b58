"""Where each run of a sweep stands."""
