"""Seconds of linear probes, zero-shot scoring, retrieval and k-NN, beside the straightforward ways.

    python perf/evaluate.py --threads 1
    python perf/evaluate.py --scale 0.1       # a tenth of every count of images and texts
    python perf/evaluate.py --only probe,knn

Full size: 10,000 features of width 512 and 100 classes; 50,000 images and 1,000 classes; 10,000 images and 50,000
texts; 5,000 images and a bank of 100,000. Features are made up. CLIP_benchmark's own functions are called; those
of its probe ask for CUDA, and on a machine without it those calls are made to do nothing. Each way is timed once,
one after another; the processor's own seconds are told, which other work disturbs less, and those on the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

sys.path[0] = str(Path(__file__).parent.parent)  # or this file would hide the package of its name
WIDTH, CLASSES = 512, 100


def clusters(count: int, classes: int, seed: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """float32 [count, 512] round the classes' centres, and labels; as long as CLIP's features, about 10."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((classes, WIDTH))
    labels = rng.integers(classes, size=count)
    features = centres[labels] + spread * rng.standard_normal((count, WIDTH))
    return (10 * features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def probes(scale: float) -> Iterator[tuple[str, Callable[[], float]]]:
    """Ways to fit; each gives the accuracy on 5,000 x scale other features."""
    from benchmark.evaluate.probes import adamw as _adamw_probe
    from benchmark.evaluate.scores import unit
    from benchmark.evaluate.tasks.linear_probe import fit

    features, labels = clusters(int(10_000 * scale), CLASSES, 1, 5.0)
    fresh, truth = clusters(int(5_000 * scale), CLASSES, 2, 5.0)

    def logistic(solver: str) -> float:
        probe = fit(features, labels, solver=solver, standardise=False)  # type: ignore[arg-type]
        return float((probe.predict(fresh) == truth).mean())

    held = np.arange(len(labels)) % 5 == 0

    def adamw() -> float:
        layer = _adamw_probe.fit(unit(features), labels, CLASSES, held)
        return float((layer.predict(unit(fresh)) == truth).mean())

    yield "probe clip: plain scikit-learn search", lambda: plain_search(features, labels, fresh, truth)
    for solver in ("sklearn", "torch", "torch_float32"):
        yield f"probe clip: ours, {solver}", lambda solver=solver: logistic(solver)  # type: ignore[misc]
    yield "probe AdamW: CLIP_benchmark", lambda: published_probe(unit(features), labels, unit(fresh), truth, held)
    yield "probe AdamW: ours", adamw


def plain_search(features: np.ndarray, labels: np.ndarray, fresh: np.ndarray, truth: np.ndarray) -> float:
    """The search of CLIP's appendix with scikit-learn alone, on the same validation images."""
    from sklearn.linear_model import LogisticRegression

    from benchmark.evaluate.probes.logistic import validation_split

    grid, held = np.logspace(-6, 6, 97), validation_split(labels)

    def score(index: int) -> float:
        model = LogisticRegression(C=1 / grid[index], max_iter=1000).fit(features[~held], labels[~held])
        return float(model.score(features[held], labels[held]))

    found = {index: score(index) for index in range(0, 97, 16)}
    for step in (8, 4, 2, 1):
        best = max(found, key=lambda index: (found[index], index))
        for index in {best - step, best + step} - set(found):
            if 0 <= index < 97:
                found[index] = score(index)
    best = max(found, key=lambda index: (found[index], index))
    model = LogisticRegression(C=1 / grid[best], max_iter=1000).fit(features, labels)
    return float(model.score(fresh, truth))


def published_probe(
    features: np.ndarray, labels: np.ndarray, fresh: np.ndarray, truth: np.ndarray, held: np.ndarray
) -> float:
    """CLIP_benchmark's search and final training."""
    from clip_benchmark.metrics import linear_probe as theirs

    def loader(rows: Any) -> Any:
        data = theirs.FeatureDataset(features[rows], labels[rows])
        return torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    grid = np.logspace(-6, 2, 97).tolist()
    shape = (WIDTH, CLASSES, 0.1, 10, False, device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(patch.object(theirs, "tqdm", lambda x: x))
        if device == "cpu":
            for cls in (torch.nn.Module, torch.Tensor):
                stack.enter_context(patch.object(cls, "cuda", lambda self, *_: self))
        loaders = loader(~held), loader(held)
        best = theirs.find_peak(grid, list(range(0, 97, 16)), *loaders, *shape, False, 0)
        for span in (8, 4, 2, 1):
            indices = [max(best - span, 0), best, min(best + span, 96)]
            best = theirs.find_peak(grid, indices, *loaders, *shape, False, 0)
        order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
        model = theirs.train(loader(order), *shape[:2], grid[best], *shape[2:], 0)
        with torch.no_grad():
            logits = model(torch.from_numpy(fresh).to(device))
    return float((logits.argmax(dim=1).cpu().numpy() == truth).mean())


def zero_shot(scale: float) -> Iterator[tuple[str, Callable[[], float]]]:
    """top-1 and top-5 of 50,000 x scale images among 1,000 classes; gives top-5."""
    from benchmark.evaluate.scores import unit
    from benchmark.evaluate.tasks import zero_shot

    images, labels = clusters(int(50_000 * scale), 1000, 3, 5.0)
    weights = unit(np.random.default_rng(0).standard_normal((1000, WIDTH)))

    def plain() -> float:
        order = np.argsort(-(unit(images) @ weights.T), axis=1)
        return float((order[:, :5] == labels[:, None]).any(axis=1).mean())

    def published() -> float:
        from clip_benchmark.metrics.zeroshot_classification import accuracy

        logits = (
            100.0 * torch.nn.functional.normalize(torch.from_numpy(images), dim=-1) @ torch.from_numpy(weights).T
        )
        return float(accuracy(logits, torch.from_numpy(labels), topk=(1, 5))[1])

    yield "zero-shot: plain numpy (full sort)", plain
    yield "zero-shot: CLIP_benchmark", published
    yield (
        "zero-shot: ours",
        lambda: float((zero_shot.ranks(images, weights, labels, np.arange(1000)) < 5).mean()),
    )


def retrieval(scale: float) -> Iterator[tuple[str, Callable[[], float]]]:
    """Both directions at 1, 5 and 10, 10,000 x scale images with five texts each; gives recall@5 of the texts."""
    from benchmark.evaluate.scores import unit
    from benchmark.evaluate.tasks import retrieval as task

    count = int(10_000 * scale)
    rng = np.random.default_rng(4)
    images = unit(rng.standard_normal((count, WIDTH)))
    image_of_text = np.repeat(np.arange(count), 5)
    texts = unit(images[image_of_text] + 0.3 * rng.standard_normal((5 * count, WIDTH)))

    def ours() -> float:
        task.ranks(images, texts, np.arange(count), image_of_text)
        return float((task.ranks(texts, images, image_of_text, np.arange(count)) < 5).mean())

    def published() -> float:
        from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k

        scores = torch.from_numpy(texts) @ torch.from_numpy(images).T
        positive = torch.zeros_like(scores, dtype=torch.bool)
        positive[torch.arange(len(scores)), torch.from_numpy(image_of_text)] = True
        found = {}
        for k in (1, 5, 10):
            found[k] = (batchify(recall_at_k, scores, positive, 64, "cpu", k=k) > 0).float().mean().item()
            (batchify(recall_at_k, scores.T, positive.T, 64, "cpu", k=k) > 0).float().mean().item()
        return float(found[5])

    def plain() -> float:
        for_texts = np.empty(len(texts), dtype=bool)
        for rows in np.array_split(np.arange(len(texts)), max(1, len(texts) // 1000)):
            order = np.argsort(-(texts[rows] @ images.T), axis=1)[:, :10]
            for_texts[rows] = (order[:, :5] == image_of_text[rows, None]).any(axis=1)
        for rows in np.array_split(np.arange(count), max(1, count // 1000)):
            order = np.argsort(-(images[rows] @ texts.T), axis=1)[:, :10]
            (image_of_text[order] == rows[:, None]).any(axis=1)
        return float(for_texts.mean())

    yield "retrieval: plain numpy (sort of each row)", plain
    yield "retrieval: CLIP_benchmark", published
    yield "retrieval: ours", ours


def knn(scale: float) -> Iterator[tuple[str, Callable[[], float]]]:
    """20 neighbours of 5,000 x scale among 100,000 x scale, 1,000 classes."""
    from benchmark.evaluate.scores import unit
    from benchmark.evaluate.tasks import knn as task

    bank, labels = clusters(int(100_000 * scale), 1000, 5, 5.0)
    queries, truth = clusters(int(5_000 * scale), 1000, 6, 5.0)

    def plain() -> float:
        hits = 0
        for rows in np.array_split(np.arange(len(queries)), max(1, len(queries) // 100)):
            scores = unit(queries[rows]) @ unit(bank).T
            nearest = np.argsort(-scores, axis=1)[:, :20]
            for row, neighbours, right in zip(scores, nearest, truth[rows], strict=True):
                votes = np.bincount(labels[neighbours], weights=np.exp(row[neighbours] / 0.07))
                hits += votes.argmax() == right
        return hits / len(queries)

    yield "k-NN: plain numpy (sort of each row)", plain
    yield (
        "k-NN: ours",
        lambda: float((task.predict(queries, bank, labels) == truth).mean()),  # type: ignore[arg-type]
    )


PARTS = {"probe": probes, "zero_shot": zero_shot, "retrieval": retrieval, "knn": knn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print("| way | processor s | clock s | share of the first | result |\n| --- | --: | --: | --: | --: |")
    for part in options.only.split(","):
        firsts: dict[str, float] = {}
        for name, run in PARTS[part](options.scale):
            started, on_clock = time.process_time(), time.perf_counter()
            result = run()
            seconds, clock = time.process_time() - started, time.perf_counter() - on_clock
            share = seconds / firsts.setdefault(name.split(":")[0], seconds)
            print(f"| {name} | {seconds:.2f} | {clock:.2f} | {share:.2f} | {result:.4f} |", flush=True)


if __name__ == "__main__":
    main()
