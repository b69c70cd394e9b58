"""What ``--help`` lists: methods, pools and evaluation tasks with a line each, and the files that are broken."""

from __future__ import annotations

import shutil
import textwrap

from benchmark import plugins
from benchmark.evaluate.task import Task
from benchmark.pool.source import Source
from benchmark.pruner import Pruner

KINDS: tuple[tuple[str, str, type[object]], ...] = (
    ("methods (pruner)", "baselines", Pruner),
    ("pools (pool)", "benchmark.pool.sources", Source),
    ("evaluation tasks (evaluate)", "benchmark.evaluate.tasks", Task),
)


def listing() -> str:
    """All plug-ins by kind, each file tried; as wide as the terminal."""
    return "\n\n".join(_part(f"{heading}:", plugins.survey(package, base)) for heading, package, base in KINDS)


def _part(heading: str, found: list[plugins.Plugin]) -> str:
    width = max(len(plugin.name) for plugin in found) + 2
    columns = max(40, shutil.get_terminal_size().columns - 2)
    lines = [heading]
    for plugin in found:
        text = f"BROKEN: {plugin.summary}" if plugin.is_broken else plugin.summary
        opening = f"  {plugin.name:<{width}}"
        lines.append(textwrap.fill(text, columns, initial_indent=opening, subsequent_indent=" " * (width + 2)))
    return "\n".join(lines)
