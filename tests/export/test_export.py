"""An exported model gives the run's own features in open_clip and timm; what cannot be exported is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny import TINY_CLIP, clip_grid, moco_grid

from benchmark.config.run import Choice
from benchmark.evaluate import command as evaluate
from benchmark.evaluate.run import load_model
from benchmark.export import check, command, load_back, open_clip_files, timm_files
from benchmark.export.card import literal
from benchmark.export.refusal import CannotExport
from benchmark.job import process
from benchmark.models.frameworks import make_objective
from benchmark.models.objective import Objective
from benchmark.plan.plan import PlannedRun
from benchmark.runs.record import read_evaluation, read_record, write_record

Plan = Callable[..., list[PlannedRun]]
TEXT = TINY_CLIP["tiny"]["text_cfg"]
FORMS = {"open_clip": open_clip_files.write, "timm": timm_files.write}


def clip(vision: dict[str, Any], **more: Any) -> Choice:
    return Choice(name="own", options={"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT, **more})


def moco(**options: Any) -> Choice:
    usual = {"image_size": 40, "hidden_dim": 32, "embed_dim": 16, "eval_crop": 0.83}
    return Choice(name="own", options={**usual, **options})


def trained(framework: str, choice: Choice) -> Objective:
    """A model whose batch statistics are no longer those of a fresh network."""
    model = make_objective(framework, choice, 0)
    draws = torch.Generator().manual_seed(0)
    for name, values in model.state_dict().items():
        if name.endswith(("running_mean", "running_var", ".bias")):
            values.copy_(torch.rand(values.shape, generator=draws) + 0.5)
    return model


def distance(form: str, folder: Path, model: Objective) -> float:
    """As ``check.difference`` finds it, in this process."""
    encoder, images = model.encoder(), check.pictures()
    load = {"open_clip": load_back.open_clip_features, "timm": load_back.timm_features}[form]
    with torch.inference_mode():
        found = load(str(folder), images, check.CAPTIONS)
    distances = [check.apart(found["images"].numpy(), encoder.encode_images(images))]
    if "texts" in found:
        distances.append(check.apart(found["texts"].numpy(), encoder.encode_texts(check.CAPTIONS)))
    return max(distances)


VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16, "mlp_ratio": 2.0}
CAN = {
    "vit": ("clip", clip(VIT), {"open_clip", "timm"}),
    "vit with QuickGELU": ("clip", clip(VIT, quick_gelu=True, custom_text=True), {"open_clip", "timm"}),
    "vit without a first norm": ("clip", clip({**VIT, "no_ln_pre": True}), {"open_clip"}),
    "vit that pools": ("clip", clip({**VIT, "pool_type": "avg"}), {"open_clip"}),
    "small ResNet": ("clip", clip({"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}), {"open_clip"}),
    "network of timm's": (
        "clip",
        clip({"image_size": 64, "timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"}),
        {"open_clip", "timm"},
    ),
    "network of timm's with an MLP": (
        "clip",
        clip({"image_size": 64, "timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "mlp"}),
        {"open_clip"},
    ),
    "network of this suite": (
        "clip",
        clip({"image_size": 32, "timm_model_name": "swin_mini_patch4_window4_32", "timm_pool": ""}),
        set(),
    ),
    "MoCo": ("moco", moco(width=32, depth=2, heads=2, patch_size=8), {"timm"}),
    "MoCo's ResNet": ("moco", moco(backbone="resnet10t"), {"timm"}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", CAN)
def test_a_model_is_exported_with_its_own_features_or_refused(kind: str, form: str, tmp_path: Path) -> None:
    framework, choice, forms = CAN[kind]
    model = trained(framework, choice)
    if form in forms:
        FORMS[form](model, choice, tmp_path)
        assert distance(form, tmp_path, model) < 1e-3
    else:
        with pytest.raises(CannotExport):
            FORMS[form](model, choice, tmp_path)


@pytest.mark.parametrize(
    ("form", "file", "key"),
    [
        ("open_clip", open_clip_files.CONFIG, "preprocess_cfg"),
        ("timm", timm_files.CONFIG, "pretrained_cfg"),
    ],
)
@pytest.mark.parametrize("change", [{"interpolation": "bilinear"}, {"mean": [0.48, 0.46, 0.42]}])
def test_other_preprocessing_is_seen(
    form: str, file: str, key: str, change: dict[str, Any], tmp_path: Path
) -> None:
    framework, choice, _ = CAN["vit"]
    model = trained(framework, choice)
    FORMS[form](model, choice, tmp_path)
    told = json.loads((tmp_path / file).read_text())
    told[key] |= change
    (tmp_path / file).write_text(json.dumps(told))
    assert distance(form, tmp_path, model) > check.TOLERANCE


@pytest.mark.slow
def test_a_run_of_clip_becomes_a_folder_that_other_tools_load(planned: Plan, tmp_path: Path) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}, evaluate=[{"retrieval": {"dataset": "shapes"}}]))
    assert process.run(run.folder) == "done"
    record = read_record(run.folder / "record.json")
    record["pool"] = "a|pool <script> `x`\n# heading"
    write_record(run.folder / "record.json", record)
    assert command.main([str(run.folder), "--to", "hub-folder"]) == 0
    (folder,) = (run.folder / "exported").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "open_clip_config.json", "open_clip_model.safetensors")
    }
    out = tmp_path / "evaluation.json"
    words = [f"open_clip:local-dir:{folder}", "--tasks", "retrieval:shapes", "--features", "off"]
    assert evaluate.main([*words, "--out", str(out)]) == 0
    assert read_evaluation(out)["metrics"] == record["metrics"]  # to the last digit

    _, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert set(yaml.safe_load(header)["tags"]) >= {"open_clip", "timm", "clip"}
    assert "<script>" not in text
    assert literal("a|pool <script> `x` # heading") in text
    assert "Rendered by scan-bench" in text
    for row in record["metrics"]:
        assert f"| {row['metric'].replace('_', chr(92) + '_')} |" in text
    assert command.main([str(run.folder), "--to", "hub-folder"]) == 2  # it is there already


def test_a_run_of_moco_is_exported_to_timm_and_refused_to_open_clip(
    planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = planned(moco_grid(train={"epochs": 1}))
    assert command.main([str(run.folder), "--to", "timm"]) == 2
    assert "finish the run first" in capsys.readouterr().err
    assert process.run(run.folder) == "done"
    assert command.main([str(run.folder), "--to", "open_clip"]) == 2
    assert "no tower for texts" in capsys.readouterr().err

    for script, reason in (
        (
            "import numpy, sys; numpy.savez(sys.argv[3] + '/features.npz', images=numpy.ones((5, 16)))",
            "other features",
        ),
        ("raise ValueError('no such network')", "timm cannot load it: ValueError: no such network"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(check, "SCRIPT", script)
            assert command.main([str(run.folder), "--to", "timm", "--out", str(tmp_path / "out")]) == 2
        assert reason in capsys.readouterr().err
        assert not list(tmp_path.glob("out*")) + list(tmp_path.glob(".tmp-*"))
    monkeypatch.setattr(
        command, "difference", lambda form, folder, encoder: 0.0
    )  # loaded back below, in this process
    assert command.main([str(run.folder), "--to", "timm", "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/config.json").read_text())["num_classes"] == 0
    model = load_model(run.folder, run.config)  # type: ignore[arg-type]
    assert distance("timm", tmp_path / "out", model) < 1e-3


def test_the_check_tells_features_apart() -> None:
    rows = np.eye(3)
    assert check.apart(rows, rows) == 0
    assert check.apart(rows + np.diag([1e-3, 0], k=1), rows) == pytest.approx(1e-3 / (2 / 3) ** 0.5)
    assert check.apart(rows + 100, rows + 100) == 0
    assert check.apart(rows[:2], rows) == float("inf")
