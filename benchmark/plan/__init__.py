"""A sweep becomes runs."""

from benchmark.plan.plan import PlannedRun, make_plan, write_plan

__all__ = ["PlannedRun", "make_plan", "write_plan"]
