"""Features: one pass per encoder and pool, planned for the methods that need it, resumed chunk by chunk."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from rank_processes import on_ranks
from tiny import TINY_CLIP, TINY_MOCO, clip_grid, moco_grid

import baselines
from analysis import report
from benchmark import sweep
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.run import Choice
from benchmark.config.sweepfile import read_sweep
from benchmark.coreset.coreset import load_coreset
from benchmark.job import feature_pass, process
from benchmark.models.frameworks import make_objective
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun, make_plan
from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import make_source
from benchmark.pool.sources import shapes
from benchmark.runs.record import RecordError, read_record
from benchmark.runs.state import state_of

Plan = Callable[..., list[PlannedRun]]
OF_FULL = {"run": {"pruner": "full"}}
NEEDY = '''
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from benchmark.pruner import PoolView, StaticPruner


@dataclass
class Needy(StaticPruner):
    """Keeps the half with the largest similarity of image and caption."""

    needs: ClassVar = {needs}

    def select(self, pool: PoolView) -> np.ndarray:
        first, last = (np.asarray(pool.features[self.needs[i]], dtype=np.float32) for i in (0, -1))
        score = (first * last[: len(first)]).sum(axis=1)
        return score >= np.median(score)
'''


@pytest.fixture
def needy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods dropped beside the others: needing both embeddings, images alone, and a target's."""
    for name, needs in (
        ("needy", ("image_embedding", "text_embedding")),
        ("needy_image", ("image_embedding",)),
        ("needy_target", ("image_embedding", "target_embedding")),
    ):
        (tmp_path / "extra").mkdir(exist_ok=True)
        (tmp_path / "extra" / f"{name}.py").write_text(NEEDY.replace("{needs}", repr(needs)))
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path / "extra")])


def run_sweep(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


@pytest.mark.slow
@pytest.mark.usefixtures("needy")
def test_a_sweep_trains_the_encoder_then_computes_features_then_prunes(write_sweep: Callable[..., Path]) -> None:
    path = write_sweep(clip_grid(pruner=["needy", "full"], features=OF_FULL, train={"epochs": 1}))
    assert run_sweep(path, "--cluster", "inline") == 0
    runs = {r.config.name.split("-")[0]: r for r in make_plan(read_sweep(path), path.parent / "results")}
    kinds = [r.config.method for r in make_plan(read_sweep(path), path.parent / "results")]
    assert kinds == ["full", "features of tiny", "choice of needy", "needy"]
    folder = runs["features"].folder
    facts = json.loads((folder / "features.json").read_text())
    record = read_record(runs["clip"].folder / "record.json")
    arrays = feature_pass.load(folder, facts["fingerprint"])
    assert set(arrays) == {"image_embedding", "text_embedding"}
    for array in arrays.values():
        assert (array.dtype, array.shape) == (np.float16, (64, 16))
    assert record["config"]["waits_for"] == [runs["features"].config.name, runs["choice"].config.name]
    assert record["code"] == facts["code"]
    assert (facts["versions"], facts["device"], facts["num_ranks"]) == (record["versions"], record["device"], 1)
    # the rows are what the encoder gives, of length 1
    full = next(r for r in make_plan(read_sweep(path), path.parent / "results") if r.config.method == "full")
    objective = make_objective("clip", full.config.model, 0)  # type: ignore[union-attr]
    from benchmark.models import weights_file

    weights_file.load_weights(full.folder.final_weights, objective)
    pool = make_source(full.config.pool, "pool").training_pool()
    expected = objective.encoder().encode_texts([pool.read(i).caption for i in range(64)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(arrays["text_embedding"], expected, atol=2e-3)
    # and the method chose by them
    score = (arrays["image_embedding"].astype(np.float32) * arrays["text_embedding"]).sum(axis=1)
    assert np.array_equal(load_coreset(runs["clip"].folder / "coreset.npz").keep, score >= np.median(score))
    assert not (folder / "chunks").exists() or not any((folder / "chunks").iterdir())
    # a pass is no run that the report misses
    out = path.parent / "report"
    assert report.main(["--results", str(path.parent / "results"), "--out", str(out)]) == 0
    assert "Missing runs" not in (out / "tables/main.md").read_text()
    assert "| needy | 50.0 (n = 1)" in (out / "tables/main.md").read_text()


@pytest.mark.usefixtures("needy")
def test_one_pass_serves_all_methods_of_a_seed(planned: Plan) -> None:
    runs = planned(
        clip_grid(pruner=["full", "needy", "needy_image"], features=OF_FULL, seed=[0, 1]),
    )
    passes = [run for run in runs if isinstance(run.config, FeatureConfig)]
    assert len(passes) == 2
    assert [run.config.seed for run in passes] == [0, 1]


@pytest.mark.usefixtures("needy")
def test_published_weights_serve_all_seeds_in_one_pass(planned: Plan, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.touch()
    given = {"open_clip": "ViT-S-32-alt", "pretrained": str(weights)}
    runs = planned(clip_grid(pruner=["needy", "needy_image", "full"], features=given, seed=[0, 1, 2]))
    (passing,) = [run.config for run in runs if isinstance(run.config, FeatureConfig)]
    waiting = [run.config.method for run in runs if passing.name in run.config.waits_for]
    choices = ["choice of needy", "choice of needy_image"]
    assert sorted(waiting) == choices + 3 * ["needy"] + 3 * ["needy_image"]


@pytest.mark.usefixtures("needy")
def test_half_precision_is_another_pass_and_single_precision_is_that_of_before(
    planned: Plan, tmp_path: Path
) -> None:
    def passing(**options: str) -> FeatureConfig:
        runs = planned(clip_grid(pruner=["full", "needy"], features={**OF_FULL, **options}))
        (found,) = [run.config for run in runs if isinstance(run.config, FeatureConfig)]
        return found

    before = passing()
    assert passing(precision="fp32") == before
    assert len({before.name, passing(precision="bf16").name, passing(precision="fp16").name}) == 3
    node = yaml.safe_load(before.to_yaml())
    assert node.pop("precision") == "fp32"
    again = FeatureConfig.read(node, tmp_path / "config.yaml")
    assert again == before
    assert again.name == before.name
    with pytest.raises(ConfigError, match=r"features: precision: unknown value 'half'"):
        passing(precision="half")


@pytest.mark.usefixtures("needy")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_nearly_the_same_features(precision: str, planned: Plan) -> None:
    grid = {"pruner": ["full", "needy"], "train": {"epochs": 1}}
    full, single, *_ = planned(clip_grid(features=OF_FULL, **grid))
    _, half, *_ = planned(clip_grid(features={**OF_FULL, "precision": precision}, **grid))
    process.run(full.folder)
    for run in (single, half):
        assert process.run(run.folder) == "done"
    for name in ("image_embedding", "text_embedding"):
        one, other = (np.load(run.folder / f"{name}.npy").astype(np.float32) for run in (single, half))
        assert (one * other).sum(axis=1).min() > 0.999
        assert not np.array_equal(one, other)
    assert json.loads((half.folder / "features.json").read_text())["config"]["precision"] == precision


@pytest.mark.usefixtures("needy")
def test_a_target_joins_the_pass_of_the_other_methods_and_leaves_their_names_alone(planned: Plan) -> None:
    def names(runs: list[PlannedRun], kind: str) -> list[str]:
        return [run.config.name for run in runs if run.config.method == kind]

    both = ["full", "needy", "needy_target"]
    runs = planned(clip_grid(pruner=both, features={**OF_FULL, "target": "shapes"}))
    (passing,) = [run.config for run in runs if isinstance(run.config, FeatureConfig)]
    assert all(passing.name in run.config.waits_for for run in runs if "needy" in run.config.method)
    without = planned(clip_grid(pruner=["full", "needy"], features=OF_FULL), results="other")
    for method in ("needy", "choice of needy"):
        assert names(runs, method) == names(without, method)


@pytest.mark.usefixtures("needy")
def test_methods_without_needs_keep_their_names(planned: Plan) -> None:
    with_features = planned(clip_grid(pruner=["full", "scan"], features=OF_FULL))
    without = planned(clip_grid(pruner=["full", "scan"]), results="other")
    assert [r.config.name for r in with_features] == [r.config.name for r in without]


def feature_run(planned: Plan, **changes: Any) -> tuple[PlannedRun, PlannedRun]:
    full, passing, *_ = planned(
        clip_grid(pruner=["full", "needy"], features=OF_FULL, **{"train": {"epochs": 1}, **changes})
    )
    process.run(full.folder)
    return full, passing


@pytest.mark.slow
@pytest.mark.usefixtures("needy")
def test_a_pass_goes_on_after_its_last_whole_chunk(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_pass, "CHUNK", 10)
    _, run = feature_run(planned)
    calls = iter(range(100))

    def failing(*_: object) -> None:
        if next(calls) == 3:
            raise OSError("interrupted")

    with pytest.raises(OSError, match="interrupted"):
        process.run(run.folder, failing)
    assert state_of(run.folder, run.config).name == "failed"
    assert len(list(run.folder.glob("chunks/*.npz"))) == 3
    assert process.run(run.folder, failing) == "done"
    assert next(calls) == 8  # 7 chunks, of which 3 lay there; the failing call was the fourth
    whole = feature_pass.load(run.folder, json.loads((run.folder / "features.json").read_text())["fingerprint"])
    monkeypatch.setattr(feature_pass, "CHUNK", 64)
    (run.folder / "features.json").unlink()
    before = {name: np.array(array) for name, array in whole.items()}
    assert process.run(run.folder) == "done"
    for name, array in before.items():
        assert np.allclose(np.load(run.folder / f"{name}.npy"), array, atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("needy")
def test_workers_hold_few_files_open_and_give_the_same_features(planned: Plan) -> None:
    """A worker hands tensors on as open files; a shell's usual limit is 1,024."""
    features = {**OF_FULL, "batch_size": 48}
    full, passing, *_ = planned(clip_grid(pruner=["full", "needy"], features=features, train={"epochs": 1}))
    process.run(full.folder)
    process.run(passing.folder)
    alone = np.array(np.load(passing.folder / "image_embedding.npy"))
    _, again, *_ = planned(
        clip_grid(pruner=["full", "needy"], features={**features, "num_workers": 2}, train={"epochs": 1})
    )
    assert again.config.name == passing.config.name
    (passing.folder / "features.json").unlink()
    children = set(multiprocessing.active_children())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, limits[1]))
    try:
        assert process.run(again.folder) == "done"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert set(multiprocessing.active_children()) <= children
    assert np.allclose(np.load(passing.folder / "image_embedding.npy"), alone, atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("needy")
def test_ranks_share_the_chunks(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_pass, "CHUNK", 10)
    _, run = feature_run(planned)
    assert on_ranks(2, lambda rank: process.run(run.folder)) == ["done", "done"]
    shared = np.load(run.folder / "image_embedding.npy")
    (run.folder / "features.json").unlink()
    assert process.run(run.folder) == "done"
    assert np.array_equal(np.load(run.folder / "image_embedding.npy"), shared)


@pytest.mark.usefixtures("needy")
def test_a_sample_that_cannot_be_read_is_a_row_of_zeros_and_counted(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = feature_run(planned)
    read = shapes.ShapesPool.read

    def broken(self: Any, sample_id: int) -> Any:
        if sample_id in (3, 9):
            raise SampleError("image_undecodable", "broken")
        return read(self, sample_id)

    monkeypatch.setattr(shapes.ShapesPool, "read", broken)
    process.run(run.folder)
    facts = json.loads((run.folder / "features.json").read_text())
    array = np.load(run.folder / "image_embedding.npy")
    assert facts["skipped"] == 2
    assert np.flatnonzero(~array.any(axis=1)).tolist() == [3, 9]


@pytest.mark.usefixtures("needy")
def test_features_of_another_pool_and_damaged_ones_are_refused(planned: Plan) -> None:
    _, run = feature_run(planned)
    with pytest.raises(PoolError, match="have not been computed yet"):
        feature_pass.load(run.folder, "abc")
    process.run(run.folder)
    with pytest.raises(PoolError, match="but this pool is abc"):
        feature_pass.load(run.folder, "abc")
    fingerprint = json.loads((run.folder / "features.json").read_text())["fingerprint"]
    array = run.folder / "image_embedding.npy"
    array.write_bytes(array.read_bytes()[:50])
    with pytest.raises(PoolError, match=r"features\.json: cannot be read"):
        feature_pass.load(run.folder, fingerprint)


@pytest.mark.usefixtures("needy")
def test_features_are_compared_with_their_checksums_once(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = feature_run(planned)
    process.run(run.folder)
    fingerprint = json.loads((run.folder / "features.json").read_text())["fingerprint"]
    array = run.folder / "text_embedding.npy"
    whole = array.read_bytes()
    feature_pass.load(run.folder, fingerprint)
    with monkeypatch.context() as patch:
        patch.setattr(feature_pass, "sha256_of", lambda path: pytest.fail("read again"))
        feature_pass.load(run.folder, fingerprint)
    array.write_bytes(whole[:-7] + bytes([whole[-7] ^ 1]) + whole[-6:])
    with pytest.raises(PoolError, match=r"text_embedding\.npy: not as the pass left it .* computed again"):
        feature_pass.load(run.folder, fingerprint)
    array.write_bytes(whole)
    feature_pass.load(run.folder, fingerprint)


@pytest.mark.usefixtures("needy")
def test_a_pass_refuses_weights_that_the_record_was_not_written_for(planned: Plan) -> None:
    full, run = feature_run(planned)
    weights = full.folder.final_weights
    content = weights.read_bytes()
    weights.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    with pytest.raises(RecordError, match="one of the two comes from another run"):
        process.run(run.folder)
    weights.write_bytes(content[:100])
    with pytest.raises(PoolError, match=r"final\.safetensors: cannot be loaded"):
        process.run(run.folder)


@pytest.mark.usefixtures("needy")
@pytest.mark.parametrize("how", ["damaged", "another encoder", "another pool", "cut"])
def test_chunks_that_are_not_of_this_pass_are_computed_anew(
    how: str, planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_pass, "CHUNK", 32)
    _, run = feature_run(planned)
    monkeypatch.setattr(feature_pass, "_join", lambda *_: (_ for _ in ()).throw(OSError("interrupted")))
    with pytest.raises(OSError, match="interrupted"):
        process.run(run.folder)
    monkeypatch.undo()
    monkeypatch.setattr(feature_pass, "CHUNK", 32)
    first, _ = sorted(run.folder.glob("chunks/*.npz"))
    with np.load(first) as file:
        content = {name: file[name] for name in file.files}
    if how == "damaged":
        middle = first.stat().st_size // 2
        data = first.read_bytes()
        first.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif how == "cut":
        first.write_bytes(first.read_bytes()[:-20])
    else:
        content["encoder" if "encoder" in how else "fingerprint"] = np.array("other")
        content["image_embedding"] = np.zeros_like(content["image_embedding"])
        np.savez(first, **content)
    computed: list[str] = []
    process.run(run.folder, lambda _, text: computed.append(text))
    assert computed == ["samples 0 of 64"]
    array = np.load(run.folder / "image_embedding.npy")
    assert np.allclose(np.linalg.norm(array.astype(np.float32), axis=1), 1, atol=1e-2)


@pytest.mark.slow
@pytest.mark.usefixtures("needy")
def test_open_clip_weights_come_from_a_file(write_sweep: Callable[..., Path], tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    small = "ViT-S-32-alt"
    torch.save(open_clip.create_model(small).state_dict(), weights)
    given = {"open_clip": small, "pretrained": str(weights)}
    path = write_sweep(clip_grid(pruner="needy", features=given, train={"epochs": 1}))
    assert run_sweep(path, "--cluster", "inline") == 0
    (facts,) = [json.loads(p.read_text()) for p in path.parent.glob("results/*/*/features.json")]
    assert facts["weights"].startswith("sha256:")
    assert facts["encoder"]["activations"] == ["GELU"]
    assert facts["encoder"]["interpolation"] == "bicubic"


@pytest.mark.usefixtures("needy")
def test_weights_that_cannot_be_fetched_say_where_to_put_the_file(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        open_clip, "create_model_and_transforms", lambda *a, **k: (_ for _ in ()).throw(OSError("no network"))
    )
    given = {"open_clip": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}
    path = write_sweep(clip_grid(pruner="needy", features=given))
    assert run_sweep(path, "--cluster", "inline") == 1
    shown = " ".join(capsys.readouterr().err.split())
    file = "open_clip_model.safetensors"
    assert f"https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main/{file} elsewhere" in shown
    named = f"{{open_clip: ViT-B-32, pretrained: /path/to/{file}, as_tag: laion2b_s34b_b79k}}"
    assert f"name it with its tag, whose activation and preprocessing it needs: features: {named}" in shown
    assert "2 blocked, 1 failed" in shown
    out = path.parent / "report"
    assert report.main(["--results", str(path.parent / "results"), "--out", str(out)]) == 0
    (row,) = [line for line in (out / "tables/main.md").read_text().splitlines() if line.startswith("| tiny | ")]
    assert "not run: waits for features-ViT-B-32-shapes-64-s0-" in row
    assert ", failed: ConfigError: the weights 'laion2b_s34b_b79k' of ViT-B-32" in row
    assert "--retry" in row


@pytest.mark.usefixtures("needy")
def test_a_published_tag_is_planned_under_the_name_that_has_its_activation(planned: Plan) -> None:
    given = {"open_clip": "ViT-B-32", "pretrained": "openai"}
    passing, *_ = planned(clip_grid(pruner="needy", features=given))
    assert passing.config.name.startswith("features-ViT-B-32-quickgelu-shapes-64-s0-")


@pytest.mark.slow
@pytest.mark.usefixtures("needy")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.02)])
def test_a_checkpoint_of_moco_v3_gives_features_of_images(
    precision: str, tolerance: float, planned: Plan, tmp_path: Path
) -> None:
    options = {"image_size": 32, "hidden_dim": 8, "embed_dim": 4}
    model: Any = make_objective("moco", Choice(name="vit_small", options=options), 0)
    backbone = model.base.backbone.state_dict()
    state = {f"module.base_encoder.{key}": value for key, value in backbone.items()}
    torch.save({"arch": "vit_small", "state_dict": state}, tmp_path / "vit-s.pth.tar")
    given = {"moco_v3": str(tmp_path / "vit-s.pth.tar"), "precision": precision}
    passing, *_ = planned(clip_grid(pruner="needy_image", features=given))
    assert process.run(passing.folder) == "done"
    found = np.load(passing.folder / "image_embedding.npy").astype(np.float32)
    pool = make_source(Choice(name="shapes", options={"num_samples": 64}), "pool").training_pool()
    expected = model.encoder().encode_images([pool.read(i).image for i in range(64)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=tolerance)
    assert json.loads((passing.folder / "features.json").read_text())["encoder"]["image_size"] == 32
    assert not (passing.folder / "text_embedding.npy").exists()


@pytest.mark.usefixtures("needy")
@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_a_file_that_holds_no_weights_is_named(content: bytes, planned: Plan, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(content)
    given = {"open_clip": "ViT-S-32-alt", "pretrained": str(weights)}
    passing, *_ = planned(clip_grid(pruner=["needy"], features=given))
    with pytest.raises(
        ConfigError, match=r"weights\.pt' of ViT-S-32-alt cannot be loaded .*must hold a state dict"
    ):
        process.run(passing.folder)


@pytest.mark.usefixtures("needy")
@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (clip_grid(pruner="needy"), r"grid\[0\]\.features: missing; needy needs image_embedding, text_embedding"),
        (clip_grid(pruner="needy", features={"run": {"pruner": "full"}}), "no run of this sweep has"),
        (clip_grid(pruner="needy", features={"run": {"method": "full"}}), r"features\.run\.method: unknown key"),
        (
            clip_grid(pruner="needy", features={"open_clip": "ViT-B-32"}),
            "open_clip and pretrained belong together",
        ),
        (clip_grid(pruner="needy", features={}), r"features: missing"),
        (
            clip_grid(pruner="needy", features={"open_clip": "ViT-B-16-SigLIP", "pretrained": "webli"}),
            "the texts of ViT-B-16-SigLIP need the tokenizer timm/ViT-B-16-SigLIP",
        ),
        (
            clip_grid(pruner="needy", features={"moco_v3": __file__}),
            "needs captions, which moco_v3 does not read",
        ),
        (
            clip_grid(pruner="needy_image", features={"moco_v3": "nowhere.pth"}),
            r"moco_v3: nowhere\.pth: no such file",
        ),
        (
            clip_grid(pruner="needy", features={"open_clip": "ViT-B-33", "pretrained": "openai"}),
            "unknown open_clip model 'ViT-B-33'; did you mean",
        ),
        (
            clip_grid(pruner="needy", features={"open_clip": "ViT-B-32", "pretrained": "nowhere.pt"}),
            "neither a file nor a tag of ViT-B-32",
        ),
        (
            clip_grid(pruner=["full", "needy_target"], features=OF_FULL),
            r"features\.target: missing; needy_target needs target_embedding",
        ),
        (
            clip_grid(
                pruner=["full", {"neg_clip_loss": {"keep_fraction": 0.5, "norm_sim": "inf"}}], features=OF_FULL
            ),
            r"features\.target: missing; neg_clip_loss needs target_embedding",
        ),
        (
            moco_grid(pruner=["full", {"d2": {"keep_fraction": 0.5}}], features=OF_FULL),
            r"pruner\.d2: needs captions, which moco does not read",
        ),
        (
            moco_grid(pruner=["full", "needy"], features=OF_FULL),
            r"pruner\.needy: needs captions, which moco does not read",
        ),
    ],
)
def test_a_mistake_is_one_error_at_the_desk(write_sweep: Callable[..., Path], grid: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(read_sweep(write_sweep(grid)), Path("results"))


@pytest.mark.slow
@pytest.mark.usefixtures("needy")
def test_moco_gives_image_features_and_a_target_its_training_images(write_sweep: Callable[..., Path]) -> None:
    without_text = {"d2": {"keep_fraction": 0.5, "score": "prototypes"}}  # what they need depends on their options
    with_target = {"neg_clip_loss": {"keep_fraction": 0.5, "norm_sim": 2}}
    pruners = ["full", "needy_image", without_text]
    moco = moco_grid(pruner=pruners, features=OF_FULL, model=TINY_MOCO, train={"epochs": 1})
    target = clip_grid(
        pruner=["full", "needy_target", with_target],
        features={**OF_FULL, "target": "shapes"},
        model=TINY_CLIP,
        train={"epochs": 1},
    )
    path = write_sweep(moco, target)
    assert run_sweep(path, "--cluster", "inline") == 0
    found = [sorted(p.name for p in f.parent.glob("*.npy")) for f in path.parent.glob("results/*/*/features.json")]
    assert sorted(found) == [
        ["image_embedding.npy"],
        ["image_embedding.npy", "target_embedding.npy", "text_embedding.npy"],
    ]
    assert os.path.isdir(path.parent / "results")
