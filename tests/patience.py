"""Limits of time that follow the machine: how long a test waits before it calls something stuck."""

from __future__ import annotations

import os


def patience(seconds: float) -> float:
    """``seconds`` on an idle machine, longer the more work waits for each core, and at least three times in CI."""
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    return seconds * (max(3.0, busy) if os.environ.get("CI") else busy)
