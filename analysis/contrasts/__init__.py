"""Contrasts that were registered before their runs, found again from the records: estimate, interval, p, verdict.

A question has a family of contrasts. Each is a paired difference, seed by seed, of one measure; several methods of
an arm, several pairs, models and pools are averaged within a seed first. Only seeds count that are whole for all
arms of a question. Intervals are Student's t over seeds; p-values are two-sided, adjusted by Holm in a question.
"""

from analysis.contrasts.answer import answers, holm, p_value, seeds_needed, verdict
from analysis.contrasts.command import main
from analysis.contrasts.registered import read_registered

__all__ = ["answers", "holm", "main", "p_value", "read_registered", "seeds_needed", "verdict"]
