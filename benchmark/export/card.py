"""The model card of an export: README.md as hubs show it, filled from the run's record."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from benchmark.runs.record import NATS

UNKNOWN = "unknown"
LIBRARIES = {"open_clip": "open_clip", "timm": "timm"}
PIPELINES = {"open_clip": "zero-shot-image-classification", "timm": "image-feature-extraction"}
LOADING = {
    "open_clip": """\
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")  # or "hf-hub:OWNER/NAME"
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
""",
    "timm": """\
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True)  # or "hf-hub:OWNER/NAME"
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
""",
}


def card(
    record: Mapping[str, Any], licence: str, differences: Mapping[str, float], refused: Mapping[str, str]
) -> str:
    """Markdown under a header of YAML. Names, options and licences are shown literally, whatever they hold.

    ``licence``: the data's own words, "" for none. ``differences``: by form, how far its features are from the
    run's, relative to their spread. ``refused``: by form, why the model has it not.
    """
    first = next(iter(differences))
    header = {
        "library_name": LIBRARIES[first],
        "pipeline_tag": PIPELINES[first],
        "tags": [*differences, str(record["framework"]), "data-pruning", "scan-bench"],
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        f"# {literal(record['run'])}\n",
        f"{'CLIP' if record['framework'] == 'clip' else 'MoCo v3'}, trained by scan-bench.\n",
        *(f"```python\n{LOADING[form]}```\n" for form in differences),
        *(f"Not for {form}: {literal(reason)}.\n" for form, reason in refused.items()),
        "## Training\n",
        _table(("", ""), _training(record)),
        "## Data\n",
        f"{literal(record['pool'])}. Licence of the data: {literal(licence) or UNKNOWN}\n",
        "Licence of these weights: not chosen yet; say it as `license:` in this file's header before you share"
        " them.\n",
        "## Measured\n",
        _measured(record["metrics"]),
        "Loaded back before this folder was put in place, its features differ from the run's by "
        + ", ".join(f"{value:.1g} ({form})" for form, value in differences.items())
        + " of their spread at most.\n",
    ]
    return "\n".join(parts)


def literal(value: object) -> str:
    """Any text as Markdown shows it as it is, on one line."""
    plain = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$]|:(?=//)|(?<=www)\.)", r"\\\1", plain)


def _training(record: Mapping[str, Any]) -> list[tuple[str, object]]:
    training, config, facts = record["training"], record["config"], record["pool_facts"]
    method = config["pruner"]
    options = ", ".join(f"{key}: {value}" for key, value in sorted(method["options"].items()))
    told = config["train"]
    return [
        ("model", record["model"]),
        ("pool", f"{record['pool']}, {facts['num_samples']:,} samples, fingerprint {facts['fingerprint']}"),
        ("method", f"{method['name']} ({options})" if options else method["name"]),
        ("samples seen", f"{training['samples_seen']:,} of {training['samples_full']:,}"),
        ("pruned", f"{training['pruning_rate']:.1%}"),
        ("epochs, batch, peak rate", f"{training['epochs']}, {told['batch_size']}, {told['lr']:g}"),
        ("seed", record["seed"]),
        ("weights", record.get("weights", UNKNOWN)),
        ("code", record["code"]["git_sha"] or UNKNOWN),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))),
        ("finished", record["finished"]),
    ]


def _measured(metrics: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for row in metrics:
        scale, unit = (1, " nats") if row["metric"] in NATS else (100, " %")
        value, low, high = (f"{scale * number:.2f}" for number in (row["value"], *row["ci95"]))
        told = (row["task"], row["dataset"], row["metric"], f"{value}{unit}", f"{low} to {high}", f"{row['n']:,}")
        rows.append((*told, row["protocol"]))
    if not rows:
        return "Nothing.\n"
    heading = ("task", "data set", "metric", "value", "95 % interval over items", "n", "protocol")
    return _table(heading, rows)


def _table(heading: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *(tuple(map(literal, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
