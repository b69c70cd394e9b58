"""The tables of the report and of a paper."""
