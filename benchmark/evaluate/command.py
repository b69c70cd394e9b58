"""``python -m benchmark.evaluate CHECKPOINT --tasks TASK:DATASET ...``: a model goes in, rows of metrics come out.

CHECKPOINT is a run's folder, whose record gets the rows, or a model that was not trained here,
``open_clip:MODEL:PRETRAINED`` or ``moco_v3:FILE``, which gets a file of its own that the report shows apart. With
``--controls`` it is a folder of runs, beside which raw pixels and untrained models are measured.
"""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmark import dist, plugins
from benchmark.config import suites
from benchmark.config.feature_pass import WHOLE_MODELS
from benchmark.config.job import load_config
from benchmark.config.run import Choice, RunConfig, as_choice, resolved
from benchmark.evaluate import run as evaluation
from benchmark.evaluate.cache import cache_of
from benchmark.evaluate.controls import SIDE, PixelEncoder, controls_of
from benchmark.evaluate.means import Means
from benchmark.evaluate.run import Outcome
from benchmark.evaluate.task import Task, make_task
from benchmark.files import told
from benchmark.models.encoder import Encoder
from benchmark.models.fingerprints import weights_hash
from benchmark.models.frameworks import has_text
from benchmark.options import ConfigError, Parser, plain, value_in
from benchmark.pool.source import Source
from benchmark.runs.folder import EVALUATION_FILE, RunFolder
from benchmark.runs.lease import HeldError, lease
from benchmark.runs.provenance import facts, now
from benchmark.runs.record import NATS, SCHEMA_VERSION, RecordError, read_evaluation, read_record, write_evaluation

OPEN_CLIP, MOCO_V3 = "open_clip:", "moco_v3:"
WIDTH = 500
"""Columns of what is printed to no terminal: a row stays on one line, for grep."""
EXIT_SKIPPED, EXIT_USAGE = 1, 2
Report = Callable[[float, str], None]
Results = Iterable[tuple[Outcome, Path]]
"""What was found for each model, and the file that holds it."""


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 if a task was skipped, 2 for a mistake in the input."""
    console = Console(stderr=True, emoji=False)
    out = Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = parser().parse_args(words)
    if options.list:
        _list(out)
        return 0
    try:
        if options.checkpoint is None:
            raise ConfigError("CHECKPOINT: missing; name a run's folder or open_clip:MODEL:PRETRAINED (or --list)")
        asked = parse_tasks(options.tasks)
        is_foreign = options.checkpoint.startswith((OPEN_CLIP, MOCO_V3))
        if options.as_tag and not is_foreign:
            raise ConfigError("--as-tag: belongs to open_clip:MODEL:FILE")
        work = _controls if options.controls else _foreign if is_foreign else _own
        done = list(work(options, asked, console))
    except (ConfigError, RecordError, HeldError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except ValueError as error:  # a model that has diverged, a set of images that a probe cannot be fitted on
        console.print(f"error: {options.checkpoint}: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except OSError as error:
        console.print(f"error: {told(error)}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        console.print("stopped; what a run's record has got and features that were computed are kept")
        return 130
    for found, place in done:
        _tell(found, place, out)
    return EXIT_SKIPPED if any(found.skipped for found, _ in done) else 0


def parse_tasks(texts: Sequence[str]) -> list[Choice]:
    """``TASK:DATASET``, ``TASK:{option: value}`` or ``suite:NAME`` -> choices with every option written out.

    Raises ConfigError that opens with the text.
    """
    choices = []
    for text in texts:
        name, colon, rest = text.partition(":")
        where = f"--tasks {text}"
        if not colon or not rest.strip():
            raise ConfigError(f"{where}: expected TASK:DATASET or 'TASK:{{option: value}}'; --list shows both")
        node = value_in(where, rest)
        key = "name" if name == suites.WORD else "dataset"
        options = node if isinstance(node, Mapping) else {key: rest.strip()}
        for one in suites.expanded([{name: dict(options)}], where):
            choice = as_choice(one, where)
            choices.append(resolved(choice.name, make_task(choice, where), as_before=True))
    return choices


def _lock(out: Path) -> AbstractContextManager[None]:
    """One writer a file: of two commands at once none loses the other's rows."""
    return lease(out.with_name(f"{out.stem}.lock"))


def _own(options: argparse.Namespace, asked: Sequence[Choice], console: Console) -> Results:
    """Evaluate a run of this suite and extend its record; with ``--out`` the record stays as it is."""
    folder = RunFolder(options.checkpoint)
    config = load_config(folder.config)
    if not isinstance(config, RunConfig):
        raise ConfigError(f"{folder}: a pass over features, which has no model of its own")
    choices = asked or list(config.evaluate)
    if not choices:
        raise ConfigError(f"{folder}: its sweep asks for no evaluation; say --tasks TASK:DATASET (see --list)")
    _check_text(choices, has_text(config.framework), config.framework)
    device, started = _device(options), now()
    if not options.out and not folder.record.exists():
        raise ConfigError(f"{folder}: no record.json to put the results into; finish the run, or give --out FILE")
    model = evaluation.load_model(folder, config).to(device)
    encoder = model.encoder(options.batch_size)
    if options.out:
        out = Path(options.out)
        names = {"model": config.name, "pretrained": f"run {folder}", "weights": weights_hash(model)}
        with _lock(out):
            _read(out, names)  # before the work: a file that holds another model is told at once
            found = _evaluate(choices, encoder, _cache(options, folder), console)
            return [(found, _write(out, names, found, started, device))]
    with lease(folder.trained_in.lease):
        evaluation.check_weights(read_record(folder.record), folder.record, model)
        found = Outcome()
        means = Means(num_workers=config.train.num_workers, folder=folder.evaluating)
        with _progress(console) as report:
            for one in evaluation.each(choices, encoder, _cache(options, folder), report, means):
                evaluation.extend_record(folder, config, one, model, facts(started, device))
                shutil.rmtree(folder.evaluating, ignore_errors=True)
                found.add(one)
    return [(found, folder.record)]


def _controls(options: argparse.Namespace, asked: Sequence[Choice], console: Console) -> Results:
    """What the controls of a folder of results, of a sweep or of a run lack."""
    device = _device(options)
    for control in controls_of(Path(options.checkpoint), asked):
        choices = control.missing()
        if not choices:
            continue
        started = now()
        encoder: Encoder = PixelEncoder()
        weights = f"pixels:{SIDE}"
        if control.make is not None:
            model = control.make().to(device)
            encoder, weights = model.encoder(options.batch_size), weights_hash(model)
        names = {"model": control.model, "pretrained": control.told["kind"], "weights": weights}
        with _lock(control.out):
            _read(control.out, names)
            found = _evaluate(choices, encoder, _cache(options, control.out.parent), console)
            yield found, _write(control.out, {**names, "control": control.told}, found, started, device)


def _foreign(options: argparse.Namespace, asked: Sequence[Choice], console: Console) -> Results:
    """Evaluate a model that was not trained here: published weights, or those of a file or folder."""
    with_text = any(make_task(choice, "--tasks").needs_text for choice in asked)
    load = _moco_v3 if options.checkpoint.startswith(MOCO_V3) else _open_clip
    encode = load(options, with_text)
    if not asked:
        raise ConfigError(f"{options.checkpoint}: say --tasks TASK:DATASET (see --list)")
    device, started = _device(options), now()
    encoder, names = encode(device)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{names['model']}-{Path(names['pretrained']).name}")
    weights = names["weights"].removeprefix("sha256:")
    default = Path("results") / "evaluations" / f"{name}-{weights[:6]}" / EVALUATION_FILE
    out = Path(options.out) if options.out else default
    with _lock(out):
        _read(out, names)
        found = _evaluate(asked, encoder, _cache(options, out.parent), console)
        return [(found, _write(out, names, found, started, device))]


Encode = Callable[[torch.device], tuple[Any, dict[str, Any]]]
"""Device -> the encoder, and what its evaluation says of it: model, pretrained, weights, encoder."""


def _open_clip(options: argparse.Namespace, with_text: bool) -> Encode:
    """Raises ConfigError, before any weights are read, for what cannot be."""
    model, colon, pretrained = options.checkpoint.removeprefix(OPEN_CLIP).partition(":")
    if f"{model}:" in WHOLE_MODELS:
        model, pretrained = f"{model}:{pretrained}", ""
    elif not colon or not pretrained:
        raise ConfigError(f"{options.checkpoint}: expected open_clip:MODEL:PRETRAINED, a tag or a file of weights")
    from benchmark.models.clip import published as clip  # loads open_clip

    what = clip.published(model, pretrained, options.checkpoint, options.as_tag or "", with_text)

    def encode(device: torch.device) -> tuple[Any, dict[str, Any]]:
        encoder = clip.open_clip_encoder(what, device, options.batch_size, with_text)
        told = {
            "model": what.label,
            "pretrained": what.pretrained or what.model,
            "encoder": clip.facts_of(encoder),
        }
        return encoder, told | {"weights": weights_hash(encoder.model)}

    return encode


def _moco_v3(options: argparse.Namespace, with_text: bool) -> Encode:
    file = Path(options.checkpoint.removeprefix(MOCO_V3))
    if with_text:
        raise ConfigError("--tasks: needs captions, which MoCo v3 does not read")
    if not file.is_file():
        raise ConfigError(f"{options.checkpoint}: no such file; expected moco_v3:FILE")
    from benchmark.models.moco import published as moco

    def encode(device: torch.device) -> tuple[Any, dict[str, Any]]:
        encoder, arch = moco.moco_v3_encoder(file, device, options.batch_size)
        told = {"model": f"moco_v3-{arch}", "pretrained": str(file), "encoder": moco.facts_of(encoder)}
        return encoder, told | {"weights": weights_hash(encoder.backbone)}

    return encode


def _write(path: Path, names: Mapping[str, Any], found: Outcome, started: str, device: torch.device) -> Path:
    """Leave ``evaluation.json`` and the predictions beside it. What it held of the same weights stays.

    Raises ConfigError if the file is of another model, or of another kind.
    """
    asked = [plain({"name": choice.name, "options": choice.options}) for choice in found.evaluated]
    old = _read(path, names)
    known = old.get("evaluate", [])
    content = {
        "schema": SCHEMA_VERSION,
        "kind": "evaluation",
        **names,
        **facts(started, device),
        "evaluate": known + [one for one in asked if one not in known],
        "metrics": evaluation.merged_rows(old.get("metrics", []), found.rows),
        "evaluation_skipped": evaluation.merged_skipped(old.get("evaluation_skipped", []), found),
    }
    evaluation.leave_predictions(RunFolder(path.parent), found)
    write_evaluation(path, content)
    return path


def _read(path: Path, names: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation that lies at ``path``, {} if none does. Raises ConfigError for one of another encoder."""
    if not path.exists():
        return {}
    old = read_evaluation(path)
    # the tokenizer is told where there were texts
    built, now_built = ({**one.get("encoder", {}), "tokenizer": None} for one in (old, names))
    if old["weights"] != names["weights"] or ("encoder" in old and built != now_built):
        what = "built otherwise" if old["weights"] == names["weights"] else "with other weights"
        raise ConfigError(
            f"{path}: holds an evaluation of {old['model']} {what}; choose another file with --out, or move this"
            " one away"
        )
    return old


def _evaluate(choices: Sequence[Choice], encoder: Encoder, cache: Path | None, console: Console) -> Outcome:
    with _progress(console) as report:
        return evaluation.evaluate(choices, encoder, cache, report)


@contextmanager
def _progress(console: Console) -> Iterator[Report]:
    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("tasks", total=1.0, text="")
        yield lambda share, text: bars.update(bar, completed=share, text=text)


def _check_text(choices: Sequence[Choice], reads_text: bool, framework: str) -> None:
    for choice in choices:
        if make_task(choice, "--tasks").needs_text and not reads_text:
            raise ConfigError(f"--tasks {choice.name}: needs captions, which {framework} does not read")


def _device(options: argparse.Namespace) -> torch.device:
    try:
        return dist.pick_device(options.device)
    except ValueError:
        raise ConfigError(f"--device {options.device}: torch sees no GPU here") from None


def _cache(options: argparse.Namespace, folder: Path) -> Path | None:
    if options.features == "off":
        return None
    return Path(options.features) if options.features else cache_of(RunFolder(folder))


def _list(console: Console) -> None:
    """Tasks with their options, and data sets, each with its first line."""
    for package, base, title in (
        ("benchmark.evaluate.tasks", Task, "tasks"),
        ("benchmark.pool.sources", Source, "data sets"),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        for name in plugins.names(package):
            cls = plugins.load(package, name, base, name)
            told = ["\n".join(task.protocol for task in cls.published())] if issubclass(cls, Task) else []
            first = (cls.__doc__ or "").strip().splitlines()[0]
            table.add_row(f"  {name}", first.replace("``", ""), *told)
        console.print(table)
    for suite in suites.suites().values():
        console.print(f"suite {suite.name}: {len(suite.sets)} sets of {suite.title}", highlight=False)


def _tell(found: Outcome, place: Path, console: Console) -> None:
    table = Table(title_justify="left", box=None)
    for heading in ("task", "data set", "metric", "%", "95 % over items", "n", "protocol"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("%", "n") else "left")
    for row in found.rows:
        low, high = row["ci95"]
        if row["metric"] in NATS:
            told = (f"{row['value']:.3f} nats", f"[{low:.3f}, {high:.3f}]", f"{row['n']:,}")
        else:
            told = (f"{100 * row['value']:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]", f"{row['n']:,}")
        table.add_row(
            row["task"], row["dataset"], row["metric"], *(t.replace("[", r"\[") for t in told), row["protocol"]
        )
    console.print(table)
    for suite in suites.asked_whole(choice.options for choice in found.evaluated):
        _tell_suite(suite, suites.own_values(suite, found.rows), console)
    for entry in found.skipped:
        console.print(f"skipped: {entry['task']}: {entry['reason']}", style="yellow", markup=False, soft_wrap=True)
    console.print(f"written to {place}", markup=False, soft_wrap=True)


def _tell_suite(suite: suites.Suite, values: Mapping[str, float], console: Console) -> None:
    """The sets' own metrics and their means."""
    table = Table(title=suite.title, title_justify="left", box=None)
    for heading in ("data set", "judged by", "%"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "%" else "left")
    for name, value in values.items():
        table.add_row(suite.sets[name].title or name, suite.sets[name].metric, f"{100 * value:.1f}")
    for score in suites.scores(suite, values):
        told = f"mean over {score.num_measured} of {score.num_sets} sets"
        table.add_row(score.title, told, "none" if score.value is None else f"{100 * score.value:.1f}")
    console.print(table)


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmark.evaluate",
        description="Evaluate a finished run again, or a model that this suite did not train.",
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        metavar="CHECKPOINT",
        help="a run's folder, or open_clip:MODEL:TAG, open_clip:MODEL:FILE, open_clip:local-dir:FOLDER,"
        " open_clip:hf-hub:OWNER/NAME, moco_v3:FILE",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=[],
        metavar="TASK:DATASET",
        help="or 'TASK:{dataset: NAME, option: value}', or suite:NAME; default: those of the run's sweep",
    )
    parser.add_argument(
        "--controls",
        action="store_true",
        help="CHECKPOINT is a folder of results, a sweep's or a run's: measure raw pixels and the models with"
        " their initial weights by the probes of its runs; what was measured before is left out",
    )
    parser.add_argument("--out", help=f"write {EVALUATION_FILE} there; a run's record then stays as it is")
    parser.add_argument("--as-tag", metavar="TAG", help="the tag of open_clip's whose weights FILE holds")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batch-size", type=int, default=256, help="images encoded at once (default: 256)")
    parser.add_argument(
        "--features", help="folder where features are kept, or off (default: features/ beside the result)"
    )
    parser.add_argument("--list", action="store_true", help="show the tasks and the data sets")
    return parser
