"""The report: tables, figures and verdicts made from records alone; ``load`` gives the numbers."""

from analysis.read.frame import load

__all__ = ["load"]
