"""The report: tables, figures and verdicts made from records alone."""
