"""``python -m benchmark.export RUN --to open_clip|timm|hub-folder``: a run's model as other tools load it.

The folder is put in place when its files, loaded back by the other tool, give the run's own features.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmark.config.job import load_config
from benchmark.config.run import RunConfig
from benchmark.evaluate import run as evaluation
from benchmark.export import open_clip_files, timm_files
from benchmark.export.card import card
from benchmark.export.check import difference
from benchmark.export.refusal import CannotExport
from benchmark.files import TEMPORARY_PREFIX, told, write_text
from benchmark.models.objective import Objective
from benchmark.options import ConfigError, Parser
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.runs.folder import RunFolder
from benchmark.runs.record import RecordError, read_record

FORMS = {"open_clip": open_clip_files.write, "timm": timm_files.write}
HUB = "hub-folder"
EXIT_USAGE = 2


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 if the run has no such form or an argument is wrong."""
    options = parser().parse_args(words)
    console = Console(stderr=True, emoji=False)
    try:
        return _export(options, console)
    except (ConfigError, RecordError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except OSError as error:
        console.print(f"error: {told(error)}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        console.print("stopped; nothing was kept")
        return 130


def _export(options: argparse.Namespace, console: Console) -> int:
    folder = RunFolder(options.run)
    config = load_config(folder.config)
    if not isinstance(config, RunConfig):
        raise ConfigError(f"{folder}: has no model of its own; name the folder of a run")
    if not folder.record.exists():
        raise ConfigError(f"{folder}: no record.json to fill the model's card from; finish the run first")
    out = options.out or folder.exported / options.to
    if out.exists():
        raise ConfigError(f"{out}: is there already; move it away, or name another folder with --out")
    record = read_record(folder.record)
    model = evaluation.load_model(folder, config)
    evaluation.check_weights(record, folder.record, model)
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=out.parent))
    try:
        differences, refused = _fill(made, model, config, list(FORMS) if options.to == HUB else [options.to])
        if not differences:
            reasons = "; ".join(f"not for {form}: {reason}" for form, reason in refused.items())
            raise ConfigError(f"{folder}: {reasons}")
        write_text(made / "README.md", card(record, _licence(config), differences, refused))
        made.chmod(0o755)
        made.rename(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    for form, value in differences.items():
        console.print(f"{form}: features as the run's (apart by {value:.1g} of their spread)", soft_wrap=True)
    for form, reason in refused.items():
        console.print(f"not for {form}: {reason}", style="yellow", markup=False, soft_wrap=True)
    console.print(f"written to {out}", markup=False, soft_wrap=True)
    return 0


def _fill(
    folder: Path, model: Objective, config: RunConfig, forms: Sequence[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Write the forms into ``folder``: by form how far its features are from the run's, or why there is none."""
    differences: dict[str, float] = {}
    refused: dict[str, str] = {}
    for form in forms:
        part = folder / form  # alone, as it is to be loaded; then all lie side by side
        try:
            FORMS[form](model, config.model, part)
            differences[form] = difference(form, part, model.encoder())
        except CannotExport as error:
            refused[form] = str(error)
        else:
            for path in part.iterdir():
                path.rename(folder / path.name)
        shutil.rmtree(part, ignore_errors=True)
    return differences, refused


def _licence(config: RunConfig) -> str:
    """The data's own words; "" if it has none, or is not on this machine to be asked."""
    try:
        return make_source(config.pool, "pool").licence()
    except (ConfigError, PoolError):
        return ""


def parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmark.export", description="A run's model as other tools load it.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--to",
        choices=(*FORMS, HUB),
        required=True,
        help=f"open_clip: both towers; timm: the image tower; {HUB}: what of both there is, with a card",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder (default: RUN/exported/FORM)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
