"""``paper_numbers.yaml``, read strictly: what the paper says, or a text about it; beside ours, never judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.blocks.block import Block
from analysis.blocks.rows import Column
from analysis.claims.registry import Registry
from analysis.read.methods import FULL, is_shorter, is_variant, pruner_of
from analysis.tables.cells import PRIMARY, PublishedValue, pruned_share
from benchmark.options import ConfigError, check_keys, check_option, load_yaml, must_be_mapping
from benchmark.runs.record import TASKS

NUMBERS_FILE = Path(__file__).parents[1] / "paper_numbers.yaml"
METHODS = sorted(path.stem for path in (Path(__file__).parents[2] / "baselines").glob("[a-z]*.py"))
SECONDARY = "secondary, not checked"


@dataclass(frozen=True)
class Published:
    """A number or a statement of the paper's, in words."""

    what: str
    value: str
    setting: str
    place: str
    source: str


@dataclass(frozen=True)
class PublishedColumn:
    name: str
    """As printed."""
    task: str
    dataset: str
    metric: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What joins it with a column of ours."""
        return self.task, self.dataset, self.metric


@dataclass(frozen=True)
class PublishedRow:
    model: str
    method: str
    """As ours is named."""
    printed: str
    """As the paper names it."""
    values: tuple[float | None, ...]
    """Percent, one a column; None where the source has none."""


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper's, or the part of it that one source tells: configuration x method x column."""

    title: str
    place: str
    source: str
    framework: str
    pool: str
    pruned: float
    """Share of the samples that its methods leave out, but for full data."""
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]

    def values(self) -> Iterator[tuple[PublishedRow, PublishedColumn, float]]:
        """All there are, percent."""
        for row in self.rows:
            for column, value in zip(self.columns, row.values, strict=True):
                if value is not None:
                    yield row, column, value


@dataclass(frozen=True)
class PaperNumbers:
    """All of ``paper_numbers.yaml``."""

    paper: str
    numbers: tuple[Published, ...]
    tables: tuple[PublishedTable, ...]

    def beside(self, registry: Registry, block: Block, column: Column) -> dict[str, PublishedValue]:
        """Label of a method of ours -> the paper's value; nothing for runs that do not count as the paper's.

        Of a method at several budgets it is the one whose measured share is nearest to the paper's. A value of the
        paper itself goes before a second-hand one.
        """
        own = [row for row in block.rows if row.values.get(column) and not is_shorter(row.method)]
        own = [row for row in own if not is_variant(row.runs[0])]
        if not own or not registry.counts(block.key[:3], own[0].runs[0].record):
            return {}
        found: dict[str, tuple[tuple[bool, float], PublishedValue]] = {}
        for table in self.tables:
            for row, theirs, value in table.values():
                if (table.framework, row.model, table.pool, *theirs.key) != (*block.key[:3], *_key(column)):
                    continue
                pruned = 0.0 if row.method == FULL else table.pruned
                alike = [one for one in own if pruner_of(one.runs[0])[0] == row.method]
                for one in sorted(alike, key=lambda one: abs(pruned_share(one.runs) - pruned))[:1]:
                    place = (table.source != PRIMARY, abs(pruned_share(one.runs) - pruned))
                    if one.method not in found or place < found[one.method][0]:
                        found[one.method] = place, PublishedValue(value / 100, pruned, table.source)
        return {method: value for method, (_, value) in found.items()}


def _key(column: Column) -> tuple[str, str, str]:
    return column.task, column.dataset, column.metric


def read_published(registry: Registry, path: Path = NUMBERS_FILE) -> PaperNumbers:
    """Raises ConfigError naming the file and the key."""
    node = load_yaml(path)
    check_keys(node, ["paper", "numbers", "tables"], str(path), all_required=True)
    numbers = []
    for one, where in _entries(node["numbers"], f"{path}: numbers"):
        check_keys(one, ["what", "value", "setting", "place", "source"], where, all_required=True)
        _source(one["source"], where)
        numbers.append(Published(**{key: str(value) for key, value in one.items()}))
    tables = [_table(one, where, registry) for one, where in _entries(node["tables"], f"{path}: tables")]
    seen: dict[object, str] = {}
    for i, table in enumerate(tables):
        for row, column, _ in table.values():
            what = (table.framework, table.pool, table.pruned, row.model, row.method, column.key)
            here = f"tables[{i}].rows[{table.rows.index(row)}]"
            other = seen.setdefault((what, table.source == PRIMARY), here)
            if other != here:
                raise ConfigError(f"{path}: {here}.{column.name}: {row.model}, {row.method} stands in {other} too")
    return PaperNumbers(str(node["paper"]), tuple(numbers), tuple(tables))


def _table(node: dict[str, Any], where: str, registry: Registry) -> PublishedTable:
    keys = ["title", "place", "source", "framework", "pool", "pruned", "columns", "rows"]
    check_keys(node, keys, where, all_required=True)
    columns = []
    for one, place in _entries(node["columns"], f"{where}.columns"):
        check_keys(one, ["name", "task", "dataset", "metric"], place, all_required=True)
        _one_of(one["task"], TASKS, f"{place}.task")
        columns.append(PublishedColumn(**{key: str(value) for key, value in one.items()}))
    if len({column.key for column in columns}) < len(columns):
        raise ConfigError(f"{where}.columns: two are of one task, data set and metric")
    framework, pool = node["framework"], node["pool"]
    _one_of(framework, sorted({known for known, _, _ in registry.paper}), f"{where}.framework")
    _one_of(pool, sorted({known for own, _, known in registry.paper if own == framework}), f"{where}.pool")
    models = [model for own, model, known in registry.paper if (own, known) == (framework, pool)]
    rows = [_row(one, place, models, len(columns)) for one, place in _entries(node["rows"], f"{where}.rows")]
    if len({(row.model, row.method) for row in rows}) < len(rows):
        raise ConfigError(f"{where}.rows: two are of one model and method")
    return PublishedTable(
        title=str(node["title"]),
        place=str(node["place"]),
        source=_source(node["source"], where),
        framework=framework,
        pool=pool,
        pruned=_percent(node["pruned"], f"{where}.pruned") / 100,
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _row(node: dict[str, Any], where: str, models: list[str], num_columns: int) -> PublishedRow:
    node = {"printed": node.get("method"), **node}
    check_keys(node, ["model", "method", "printed", "values"], where, all_required=True)
    _one_of(node["model"], models, f"{where}.model")
    _one_of(node["method"], METHODS, f"{where}.method")
    values = node["values"]
    if not isinstance(values, list) or len(values) != num_columns:
        raise ConfigError(f"{where}.values: must be a list of {num_columns}, a number a column, null for none")
    read = [None if value is None else _percent(value, f"{where}.values[{i}]") for i, value in enumerate(values)]
    return PublishedRow(node["model"], node["method"], str(node["printed"]), tuple(read))


def _percent(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ConfigError(f"{where}: must be percent as printed, 0 to 100, got {value!r}")
    return float(value)


def _source(source: Any, where: str) -> str:
    if source != PRIMARY and not str(source).startswith(f"{SECONDARY}: "):
        raise ConfigError(f"{where}.source: must be '{PRIMARY}' or '{SECONDARY}: WHERE FROM', got {source!r}")
    return str(source)


def _one_of(value: Any, known: Sequence[str], where: str) -> None:
    try:
        check_option(where, str(value), known)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _entries(node: Any, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each mapping of a list with its place."""
    if not isinstance(node, list):
        raise ConfigError(f"{where}: must be a list, got {node!r}")
    for i, one in enumerate(node):
        must_be_mapping(one, f"{where}[{i}]")
        yield one, f"{where}[{i}]"
