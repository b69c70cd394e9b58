"""Random changes of single bytes in the files of finished and interrupted runs: does any pass in silence?

``python perf/damage.py --changes 5000`` makes a tiny sweep (full data, SCAN, a static method with features, a
coreset run), interrupts copies of it, and then, one change at a time, lets the sweep go on, asks it for more
(another evaluation, another static method, another coreset) and reports. A change is *detected* if the command
fails or says the file's name, *harmless* if everything comes out as without it, else *silently wrong*. Files that
no command opens are told apart: a change in them cannot matter.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import random
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

sys.path[0] = str(Path(__file__).parent.parent)  # or baselines.py beside this file would hide the package

from analysis import report  # noqa: E402
from benchmark import sweep  # noqa: E402
from benchmark.job import feature_pass, process  # noqa: E402
from benchmark.pool.sources import shapes  # noqa: E402
from benchmark.runs.folder import RunFolder  # noqa: E402

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
SCAN = {"scan": {"warmup_threshold": 1.0}}
FIRST: list[Any] = ["full", SCAN, {"semdedup": {"keep_fraction": 0.5}}]
FIRST += [{"coreset": {"runs": {"pruner": SCAN}, "keep_fraction": 0.5}}]
MORE = [*FIRST, {"density": {"keep_fraction": 0.5}}]
MORE += [{"coreset": {"runs": {"pruner": SCAN}, "keep_fraction": 0.3}}]
TASKS: list[Any] = [{"zero_shot": {"dataset": "shapes"}}]
COST = r"of full \(n = 1\)"
"""Lines that tell seconds too; what else they say comes from records, which are compared."""
LINKED_BYTES = 200_000
"""Files from this size on are linked into a copy, not copied: they are replaced, never written in."""
VOLATILE = ("started", "finished", "evaluation_seconds", "code", "versions", "device")
VOLATILE_TRAINING = ("seconds", "data_seconds", "pruning_seconds", "samples_per_second", "peak_memory_bytes")
SEEN_AGAIN, ASKED_FOR_MORE = "finished, seen again", "finished, asked for more"
opened: set[str] = set()
read_by_commands: set[str] = set()


def grid(pruners: list[Any], tasks: list[Any]) -> str:
    train = {"epochs": 4, "batch_size": 8, "lr": 1e-3, "log_every": 1, "checkpoint_minutes": 0.0}
    one = {
        "framework": "clip",
        "model": {"tiny": MODEL},
        "pool": {"shapes": {"num_samples": 32}},
        "pruner": pruners,
        "features": {"run": {"pruner": "full"}},
        "train": train,
        "evaluate": tasks,
    }
    return yaml.safe_dump({"name": "tiny", "grid": [one]})


class Interrupted(BaseException):
    """As a kill would end the process."""


def make_states(root: Path) -> dict[str, Path]:
    """Folders of results: finished; and one run after another interrupted, what it feeds not begun."""
    (root / "first.yaml").write_text(grid(FIRST, TASKS))
    (root / "more.yaml").write_text(grid(MORE, [*TASKS, {"knn": {"dataset": "shapes"}}]))
    states = {SEEN_AGAIN: root / "finished", ASKED_FOR_MORE: root / "finished"}
    with words() as said:
        assert go_on(root / "first.yaml", root / "finished") == 0, said.getvalue()
    for kind in ("scan", "features", "coreset", "semdedup"):
        states[f"{kind} interrupted"] = _interrupted(root / "finished", root / f"{kind}-interrupted", kind)
    bare = states["scan before its record"] = copy(root / "finished", root / "no-record")
    (folder_of(bare, "-scan-") / "record.json").unlink()
    return states


def _interrupted(finished: Path, place: Path, kind: str) -> Path:
    copy(finished, place)
    static = "-semdedup-s0-"  # the run: a choice has its pool there
    fed = {"scan": ("-scan-", "-coreset-"), "features": ("features-", "choice-", static), "semdedup": (static,)}
    after = fed.get(kind, (f"-{kind}-",))
    folder = folder_of(place, after[0])
    for name in after:
        found = folder_of(place, name)
        config = (found / "config.yaml").read_bytes()
        shutil.rmtree(found)
        found.mkdir()
        (found / "config.yaml").write_bytes(config)
    calls = iter(range(1000))

    def stop(share: float, _text: str) -> None:
        if share >= 0.6 or (kind == "features" and next(calls) == 2):
            raise Interrupted

    with contextlib.suppress(Interrupted):
        process.run(folder, stop)
    return place


def folder_of(results: Path, part: str) -> RunFolder:
    (found,) = [path for path in (results / "tiny").iterdir() if part in path.name]
    return RunFolder(found)


def copy(source: Path, place: Path) -> Path:
    def put(one: str, other: str) -> None:
        if os.path.getsize(one) < LINKED_BYTES:
            shutil.copy2(one, other)
        else:
            os.link(one, other)

    shutil.copytree(source, place, copy_function=put)
    return place


def go_on(path: Path, results: Path) -> int:
    return sweep.main([str(path), "--results", str(results), "--cluster", "inline", "--retry"])


def outcome(results: Path, tables: Path) -> dict[str, Any]:
    """All that came out: records and tables but for times and costs, choices, what was pruned, predictions."""
    found: dict[str, Any] = {}
    for path in sorted(results.glob("tiny/*/*")):
        name = str(path.relative_to(results))
        if path.name == "record.json":
            record = {k: v for k, v in json.loads(path.read_text()).items() if k not in (*VOLATILE, "sha256")}
            training = {k: v for k, v in record["training"].items() if k not in VOLATILE_TRAINING}
            training["by_epoch"] = [{**epoch, "seconds": 0} for epoch in training["by_epoch"]]
            later = [one["tasks"] for one in record.get("later_evaluations", [])]
            found[name] = {**record, "training": training, "later_evaluations": later}
        elif path.suffix in (".npz", ".npy"):
            found[name] = _arrays(path)
    for path in sorted(tables.glob("*.md")):
        if "cost" not in path.name and path.name != "checklist.md":
            lines = [line for line in path.read_text().splitlines() if not re.search(COST, line)]
            if path.name == "headline.md":
                lines = [re.sub(r"[^|]*\|$", "", line) for line in lines]  # its last column tells seconds
            found[path.name] = lines
    return found


def _arrays(path: Path) -> dict[str, str]:
    """A hash of each array that the file holds; empty if it cannot be read."""
    try:
        content = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        arrays = content.items() if path.suffix == ".npz" else [("", content)]
        return {key: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for key, array in arrays}
    except Exception:  # whatever a damaged file makes numpy and zipfile raise
        return {}


def without_times(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Of two outcomes of the same, the first without the lines of tables in which they differ (digests, hours)."""
    same = {}
    for name, value in one.items():
        if isinstance(value, list):
            value = [line for line, again in zip(value, other[name], strict=True) if line == again]
        else:
            keys = [key for key in value if value[key] != other[name].get(key)]
            assert value == other[name], f"{name}: {', '.join(keys)} differ"
        same[name] = value
    return same


def differing(came: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of what differs from what was expected."""
    different = [name for name in expected.keys() | came.keys() if not (name in came and name in expected)]
    for name in expected.keys() & came.keys():
        value = expected[name]
        if isinstance(value, list):
            different += [f"{name}: {line}" for line in value if line not in came[name]]
        elif value != came[name]:
            different.append(name)
    return different


@contextlib.contextmanager
def words() -> Iterator[io.StringIO]:
    """What is said on the terminal, in logs and in warnings."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("always")
            yield said
    finally:
        logging.getLogger().removeHandler(handler)


def trial(state: Path, ask: Path, place: Path, change: tuple[str, int, int] | None) -> tuple[int, str, Any]:
    """Let a copy of the state go on, with one byte changed; the exit code, what was said, what came out."""
    shutil.rmtree(place, ignore_errors=True)
    results = copy(state, place / "results")
    if change:
        path, position, flip = results / change[0], change[1], change[2]
        content = bytearray(path.read_bytes())
        content[position] ^= flip
        path.unlink()  # it may be a link
        path.write_bytes(content)
    opened.clear()
    with words() as said:
        try:
            code = go_on(ask, results)
            code = code or report.main(["--results", str(results), "--out", str(place / "report")])
            read_by_commands.update(opened)
            came = outcome(results, place / "report" / "tables") if code == 0 else None
        except Exception as error:
            return 99, f"{said.getvalue()}\n{type(error).__name__}: {error}", None
    problems = place / "report" / "report.md"
    return code, said.getvalue() + (problems.read_text() if problems.exists() else ""), came


def told_of(path: Path, said: str) -> bool:
    """Whether the file's name was said; a checkpoint's and its digest's stand for one another."""
    name = path.stem if path.suffix == ".sha256" else path.name
    return name in said.replace("\n", "")


def _without_drawing(_: Figure, file: Any, format: str, **__: Any) -> None:
    if format == "png":
        Image.new("RGB", (1, 1)).save(file, "png")
    else:
        file.write(b"<svg></svg>")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a line of JSON for every change, as it comes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=io.StringIO())
    sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
    feature_pass.CHUNK = 8
    Figure.savefig = _without_drawing  # type: ignore[assignment, method-assign]  # figures show what tables say, and take long
    ConstrainedLayoutEngine.execute = lambda *_: None  # type: ignore[method-assign]
    shapes.Shapes.labelled = functools.cache(shapes.Shapes.labelled)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), options)


def run(root: Path, options: argparse.Namespace) -> int:
    states = make_states(root)
    place = root / "trial"
    asks = {name: root / ("more.yaml" if name == ASKED_FOR_MORE else "first.yaml") for name in states}
    expected, read = {}, {}
    for name, state in states.items():
        _, _, again = trial(state, asks[name], place, None)
        read_by_commands.clear()
        code, said, came = trial(state, asks[name], place, None)
        assert code == 0, said
        expected[name] = without_times(came, again)
        prefix = f"{place / 'results'}{os.sep}"
        read[name] = {path.removeprefix(prefix) for path in read_by_commands if path.startswith(prefix)}
    rng = random.Random(options.seed)
    counts: Counter[tuple[str, str, str]] = Counter()
    log = options.out.open("w") if options.out else None
    for _ in range(options.changes):
        name = rng.choice(list(states))
        files = sorted(p for p in states[name].rglob("*") if p.is_file() and p.stat().st_size)
        path = rng.choice(files)
        relative = str(path.relative_to(states[name]))
        change = (relative, rng.randrange(path.stat().st_size), rng.randrange(1, 256))
        kind = path.name if path.parent.parent.name == "tiny" else f"{path.parent.name}/*{path.suffix}"
        if relative not in read[name] and path.suffix != ".safetensors":  # which is opened by foreign code
            counts[name, kind, "not opened"] += 1
            if log:
                log.write(json.dumps({"state": name, "change": change, "verdict": "not opened"}) + "\n")
            continue
        code, said, came = trial(states[name], asks[name], place, change)
        # the changed file itself is no outcome, unless it is made anew
        different = [] if came is None else [n for n in differing(came, expected[name]) if n != relative]
        if code == 0 and not different:
            verdict = "harmless, told" if told_of(path, said) else "harmless"
        elif told_of(path, said):
            verdict = "detected"
        else:
            verdict = "error without the file's name" if code else "SILENTLY WRONG"
        counts[name, kind, verdict] += 1
        if log:
            told = "" if verdict.startswith("harmless") else said[-1500:]
            line = {"state": name, "change": change, "verdict": verdict, "code": code, "said": told}
            log.write(json.dumps({**line, "different": different}) + "\n")
            log.flush()
    verdicts = sorted({verdict for _, _, verdict in counts})
    for shown in [*states, "all"]:
        print(f"\n{shown}")
        rows: dict[str, Counter[str]] = {}
        for (state, kind, verdict), count in counts.items():
            if shown in (state, "all"):
                rows.setdefault("total" if shown == "all" else kind, Counter())[verdict] += count
        for kind, row in sorted(rows.items()):
            print(f"  {kind:32s}" + ", ".join(f"{v}: {row[v]}" for v in verdicts if row[v]))
    return int(any("SILENT" in verdict for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
