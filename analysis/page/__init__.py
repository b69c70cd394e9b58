"""The report as a page: its templates, the checklist and the departures."""
