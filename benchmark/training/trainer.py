"""The one training loop: it knows no method and no model, only their interfaces.

A run that is killed at any moment goes on from its last whole checkpoint and gives the same losses, bit for
bit, as one that was never interrupted: order, augmentation and draws are functions of (seed, epoch, step).
"""

from __future__ import annotations

import dataclasses
import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmark import dist, signals, states
from benchmark.config.run import TENSORBOARD, TrainConfig
from benchmark.models.objective import Objective, Tensors
from benchmark.pool.samples import Pool, PoolError
from benchmark.pruner import EpochPlan, PlanError, Pruner, State, StaticPruner, plan_of
from benchmark.runs.folder import RunFolder
from benchmark.runs.log import RunLog
from benchmark.runs.record import finite
from benchmark.seeds import seed_of
from benchmark.tracking.epoch_files import check_files, save_marks
from benchmark.tracking.trackers import Trackers
from benchmark.training import batchnorm, checkpoint, pulse, super_batch
from benchmark.training.device import kernels, sent
from benchmark.training.loader import Batch, Loader
from benchmark.training.optim import clip_gradient, learning_rate, load_state, make_optimizer, set_learning_rate
from benchmark.training.order import steps_in_epoch, super_batch_size
from benchmark.training.progress import Progress
from benchmark.training.reference import Reference
from benchmark.training.unreadable import FaultList

logger = logging.getLogger(__name__)
COMPILER = "inductor"
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
NEVER: Callable[[float, str], None] = lambda share, text: None  # noqa: E731 (a default that does nothing)


class NonFiniteLossError(RuntimeError):
    """A loss that is NaN or infinite: the run stops, its last checkpoint is from before."""


class Trainer:
    """Trains ``objective`` on ``pool`` as ``pruner`` plans, in ``folder``."""

    def __init__(
        self,
        folder: RunFolder,
        config: TrainConfig,
        seed: int,
        pool: Pool,
        objective: Objective,
        pruner: Pruner,
        device: torch.device,
        report: Callable[[float, str], None] = NEVER,
        features: Mapping[str, np.ndarray] | None = None,
        choice: State | None = None,
        reference: Pool | None = None,
        boards: Sequence[str] = (TENSORBOARD,),
    ) -> None:
        self.folder, self.config, self.seed, self.pool = folder, config, seed, pool
        self.device, self.report = device, report
        self.full_steps = steps_in_epoch(pool.num_samples, config.batch_size)
        self.objective = objective.to(device)
        objective.configure(config)
        if config.channels_last:
            self.objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.checkpointing:
            objective.checkpoint_activations()
        if config.compile:
            objective.compile(backend=COMPILER)
        self.optimizer = make_optimizer(self.objective, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.pruner = pruner
        view = pool.view(pruner.needs, features or {}, pruner.uses_truth)
        pruner.setup(view, num_epochs=config.epochs, seed=seed, num_ranks=dist.world())
        if choice is not None:  # made before, by a job of its own; a checkpoint's, where there is one, goes on
            pruner.load_state_dict(choice)
        super_batch_size(config.batch_size, pruner.super_batch, dist.world())  # fail before the first epoch
        self.trackers = Trackers(pool)
        self.faults = FaultList(pool, config.max_skipped)
        self.now = Progress()
        self.log = RunLog(folder, boards)
        self.loader = Loader(
            pool,
            objective.transform,
            batch_size=config.batch_size,
            seed=seed,
            num_workers=config.num_workers,
            rank=dist.rank(),
            world=dist.world(),
            window=config.window_shards if config.shuffle == "window" else 0,
            pin_memory=device.type != "cpu",
            prefetch=config.prefetch,
            decoder=config.decoder,
        )
        self.reference: Reference | None = None
        if pruner.reference_data is not None:
            assert reference is not None, "the method watches reference data"
            self.reference = Reference(reference, self.objective, config, seed, dist.rank(), dist.world())
        self.checkpoints = checkpoint.Writer(folder.checkpoint)
        self._pending: list[tuple[Tensor, Tensor]] = []  # ids and losses of steps not yet handed over
        self._stop = dist.Vote()
        self._clock = self._saved_at = time.perf_counter()
        self._has_stepped = False
        """In this process: what the first step compiles, tunes and opens is behind it."""

    def fit(self) -> dict[str, Any]:
        """Train to the end, from the newest whole checkpoint if there is one; return the record's ``training``.

        Raises NonFiniteLossError, CheckpointError, PlanError for a method that breaks its contract, and what a
        pool raises for data it cannot read or that has changed; signals.Stopped on all ranks, after a checkpoint,
        if one of them was asked to stop.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), kernels(self.config):
            self._resume()
            self._share_choice()
            model = self._wrapped()
            self.objective.train()
            try:
                while self.now.epoch < self.config.epochs:
                    self._run_epoch(model)
                self._share_statistics()
                self._stop.close()
                self.checkpoints.wait()
            finally:
                pulse.rest()
                self.checkpoints.close()
                self.log.close()
                self.loader.close()
                if self.reference is not None:
                    self.reference.loader.close()
        return self.now.facts(
            epochs=self.config.epochs,
            samples_full=self.full_steps * self.config.batch_size * self.config.epochs,
            data_seconds=self._data_seconds(),
            device=self.device,
        )

    def _share_statistics(self) -> None:
        """Where each rank normalised its own part, rank 0's running statistics hold, as in its checkpoints."""
        if self.config.batch_norm == "rank" and dist.world() > 1:
            of_rank_0 = dist.broadcast({name: buffer.cpu() for name, buffer in self.objective.named_buffers()})
            for name, buffer in self.objective.named_buffers():
                buffer.copy_(of_rank_0[name])

    def _share_choice(self) -> None:
        """What a static method chooses is rank 0's: clustering may round differently from call to call."""
        if isinstance(self.pruner, StaticPruner) and dist.world() > 1:
            self.pruner.load_state_dict(dist.broadcast(self.pruner.state_dict() if dist.rank() == 0 else {}))

    def _run_epoch(self, model: Callable[..., Any]) -> None:
        now, started = self.now, time.perf_counter()
        plan = plan_of(self.pruner, now.epoch)
        dist.assert_same(plan.checksum(), f"what epoch {now.epoch} trains on")
        self._check_goes_on(plan)
        if plan.observe or plan.super_batch != 1:
            self._look_at_reference()
        now.pruning_seconds += time.perf_counter() - started
        steps, batches = self.loader.epoch(now.epoch, plan.keep, now.step, plan.super_batch)
        if self._has_stepped:
            pulse.beat()
        for batch in batches:
            self.checkpoints.check()
            self._step(model, batch, plan, steps)
            self._has_stepped = True
            pulse.beat()
            if plan.super_batch != 1 and plan.observe:  # the next choice may rest on what this step observed
                self._hand_over(plan, steps)
            if now.total_steps % self.config.log_every == 0:
                self._hand_over(plan, steps)
                if dist.any_rank(time.perf_counter() - self._saved_at >= 60 * self.config.checkpoint_minutes):
                    self._save()
                    pulse.beat()
            if how := self._stop.highest(signals.asked()):
                self._leave(plan, steps, how)
        pulse.rest()
        self._hand_over(plan, steps)
        self._end_epoch(plan, steps)

    def _look_at_reference(self) -> None:
        now = self.now
        if self.reference is None or now.reference_epoch == now.epoch:  # a restart in mid-epoch has looked already
            return
        self._seed("reference")
        try:
            loss, count = self.reference.loss(self.device, self._autocast)
        except FloatingPointError as error:
            raise NonFiniteLossError(f"{error} before epoch {now.epoch}") from error
        self.pruner.observe_reference(now.epoch, loss)
        now.reference_epoch = now.epoch
        now.samples_scored += count

    def _check_goes_on(self, plan: EpochPlan) -> None:
        """An epoch that was interrupted goes on with the plan that it began with."""
        begun, self.now.plan = self.now.plan, plan.checksum()
        if self.now.step and begun is not None and begun != self.now.plan:
            raise PlanError(
                f"{type(self.pruner).__name__}: epoch {self.now.epoch} was begun with another plan than it would"
                " go on with: what plan depends on is not in state_dict, or the method's code has changed since"
            )

    def _step(self, model: Callable[..., Any], batch: Batch, plan: EpochPlan, steps: int) -> None:
        now, config = self.now, self.config
        lr = learning_rate(config, epoch=now.epoch, step=now.step, steps=steps, full_steps=self.full_steps)
        set_learning_rate(self.optimizer, lr)
        self.objective.before_step((now.epoch + now.step / steps) / config.epochs)
        ids, tensors = batch.ids, tuple(sent(t, self.device) for t in batch.tensors)
        if plan.super_batch != 1:
            ids, tensors = self._chosen(ids, tensors, plan)
        self._seed("step")
        weight, log_negative = (self._of_samples(x, ids) for x in (plan.weight, plan.log_negative))
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.objective.backward(
            model, tensors, weight, self.scaler.scale, self._autocast, config.accumulate, log_negative
        )
        if self.device.type == "cpu":  # on a GPU a look at each step would stall it: see _hand_over
            self._check_finite(ids, losses, now.step)
        self.scaler.unscale_(self.optimizer)
        clip_gradient(self.objective, config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.objective.after_step()
        self.faults.add(batch.faults)
        self._pending.append((sent(ids, self.device), losses))
        now.step += 1
        now.total_steps += 1

    def _chosen(self, ids: Tensor, tensors: Tensors, plan: EpochPlan) -> tuple[Tensor, Tensors]:
        """This rank's part of the batch that the method chooses, from its part of the super-batch."""
        now, config = self.now, self.config
        self._seed("score")
        # in one piece where memory allows: batch statistics then do not depend on the number of ranks
        at_once = len(ids) if config.accumulate == 1 else config.batch_size // dist.world() // config.accumulate
        log_negative = self._of_samples(plan.log_negative, ids)
        scored = self.objective.scored(tensors, log_negative, self._autocast, at_once)
        scores = super_batch.gathered(ids, *scored)
        self._check_finite(scores.ids, scores.losses, now.step)
        started = time.perf_counter()
        positions = super_batch.choose(self.pruner, now.epoch, now.step, scores, config.batch_size)
        now.pruning_seconds += time.perf_counter() - started
        # before ranks exchange samples: else each would wait for others, or take in what is none
        dist.assert_same(zlib.crc32(positions.tobytes()), f"what epoch {now.epoch}, step {now.step} chooses")
        self.trackers.observe(scores.ids.numpy(), scores.losses.numpy())
        self.trackers.pass_over(np.delete(scores.ids.numpy(), positions))
        now.samples_scored += len(scores.ids)
        mine = np.split(positions, dist.world())[dist.rank()]
        return scores.ids[torch.from_numpy(mine)], super_batch.dealt(tensors, positions)

    def _hand_over(self, plan: EpochPlan, steps: int) -> None:
        """Bring the pending steps' losses to the host, step by step, in order; log; let the pruner observe."""
        if not self._pending:
            return
        local_ids = torch.cat([ids for ids, _ in self._pending])  # [K * b]
        local_losses = torch.cat([losses for _, losses in self._pending])  # [K * b, 2]
        count = len(self._pending)
        first = self.now.step - count
        self._pending.clear()
        ids, losses = (_by_step(rows, count) for rows in dist.gather_to_host(local_ids, local_losses))
        self._tick()
        for i, (step_ids, step_losses) in enumerate(zip(ids, losses, strict=True)):
            self._check_finite(step_ids, step_losses, first + i)
            factors = None if plan.weight is None else torch.from_numpy(plan.weight[step_ids.numpy()])
            loss = float(self.objective.reduce(step_losses.double(), factors))
            self.now.epoch_loss += loss
            self.now.samples_seen += len(step_ids)
            self.trackers.visit(step_ids.numpy())
            started = time.perf_counter()
            if plan.observe:
                self.pruner.observe(step_ids.numpy(), step_losses.numpy())
                self.now.pruning_seconds += time.perf_counter() - started
                self.trackers.observe(step_ids.numpy(), step_losses.numpy())
            self._log_step(first + i, loss, steps)

    def _end_epoch(self, plan: EpochPlan, steps: int) -> None:
        now, started = self.now, time.perf_counter()
        self.pruner.end_epoch(now.epoch)
        marks = self.pruner.marks(now.epoch)
        if marks is not None and dist.rank() == 0:
            now.files |= save_marks(self.folder, now.epoch, marks)
        now.pruning_seconds += time.perf_counter() - started
        folder = self.folder if dist.rank() == 0 else None
        now.files |= self.trackers.end_epoch(now.epoch, plan.keep, self.pruner, marks is not None, folder)
        self.faults.share()
        self._tick()
        lr = learning_rate(self.config, epoch=now.epoch, step=steps - 1, steps=steps, full_steps=self.full_steps)
        row = {
            "epoch": now.epoch,
            "kept": int(plan.keep.sum()) if plan.super_batch == 1 else steps * self.config.batch_size,
            "loss": finite(now.epoch_loss / steps),
            "seconds": now.epoch_seconds,
            "lr": lr,
        }
        now.by_epoch.append(row)
        if dist.rank() == 0:
            shares = {f"{kind}_candidates": float(mask.mean()) for kind, mask in self.pruner.candidates().items()}
            self.log.write({"kind": "epoch", **row, **shares}, now.total_steps)
        now.epoch, now.step, now.epoch_loss, now.epoch_seconds = now.epoch + 1, 0, 0.0, 0.0
        if now.epoch == self.config.epochs:
            self._save()

    def _log_step(self, step: int, loss: float, steps: int) -> None:
        now = self.now
        total = now.total_steps - now.step + step + 1
        if total % self.config.log_every or dist.rank() != 0:
            return
        lr = learning_rate(self.config, epoch=now.epoch, step=step, steps=steps, full_steps=self.full_steps)
        share = (now.epoch + (step + 1) / steps) / self.config.epochs
        line = {"kind": "step", "epoch": now.epoch, "step": step, "loss": loss, "lr": lr, "progress": share}
        counts = {"samples_seen": now.samples_seen, "seconds": now.seconds, "data_seconds": self._data_seconds()}
        self.log.write({**line, **counts}, total)
        self.report(share, f"epoch {now.epoch + 1}/{self.config.epochs}, loss {loss:.3f}")

    def _save(self) -> None:
        pulse.rest()
        self._tick()
        self._saved_at, self._saved_steps = time.perf_counter(), self.now.total_steps
        self.faults.share()  # rank 0 writes for all
        self._check_weights()
        if dist.rank() == 0:
            self.now.log_position = self.log.settle()
            state = {
                "pool": {"num_samples": self.pool.num_samples, "fingerprint": self.pool.fingerprint},
                "progress": {**dataclasses.asdict(self.now), "data_seconds": self._data_seconds()},
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "pruner": self.pruner.state_dict(),
                **self.trackers.state_dict(),
                "faults": self.faults.state_dict(),
            }
            self.checkpoints.save(state, self.now.total_steps)

    def _leave(self, plan: EpochPlan, steps: int, how: int) -> NoReturn:
        """Save once and stop; no rank goes before the checkpoint is whole."""
        pulse.rest()
        self._hand_over(plan, steps)
        if self._saved_steps != self.now.total_steps:
            self._save()
        self._stop.close()
        self.checkpoints.wait()
        dist.assert_same(self.now.total_steps, "the step to stop at")
        logger.info("stopping at epoch %d, step %d", self.now.epoch, self.now.step)
        raise signals.Stopped(how)

    def _resume(self) -> None:
        state = checkpoint.load_newest(self.folder.checkpoint)
        if state is not None:
            self._check_pool(state.get("pool"))
            self.now = Progress(**state["progress"])
            self.objective.load_state_dict(state["objective"])
            load_state(self.optimizer, state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.pruner.load_state_dict(states.to_arrays(state["pruner"]))
            self.trackers.load_state_dict({name: states.to_arrays(state.get(name)) for name in Trackers.NAMES})
            self.faults.load_state_dict(state["faults"])
            logger.info("going on from epoch %d, step %d", self.now.epoch, self.now.step)
        dist.assert_same(self.now.total_steps, "the step to go on from")
        self._saved_steps = self.now.total_steps
        self.now.attempts += 1
        self._clock = self._saved_at = time.perf_counter()
        if dist.rank() == 0:
            check_files(self.folder, self.now.files)
            self.log.open(self.now.log_position, self.now.total_steps)

    def _check_pool(self, saved: Mapping[str, Any] | None) -> None:
        """Raise PoolError unless the checkpoint is of this pool; those of older versions do not say."""
        here = {"num_samples": self.pool.num_samples, "fingerprint": self.pool.fingerprint}
        if saved is not None and dict(saved) != here:
            raise PoolError(
                f"{self.folder}: its checkpoint was trained on a pool of {saved['num_samples']} samples,"
                f" fingerprint {saved['fingerprint']}; now it has {here['num_samples']}, fingerprint"
                f" {here['fingerprint']}: its data has changed. Bring it back, or remove the folder to train on"
                " what is there"
            )

    def _check_finite(self, ids: Tensor, losses: Tensor, step: int) -> None:
        bad = ~torch.isfinite(losses).all(dim=1)
        if bad.any():
            keys = ", ".join(f"{i} ({self.pool.key(i)})" for i in ids[bad.cpu()].tolist()[:10])
            raise NonFiniteLossError(
                f"loss is not finite at epoch {self.now.epoch}, step {step}, for {int(bad.sum())} of {len(ids)}"
                f" samples: {keys}. The last checkpoint is from before; lower train.lr, set train.clip_norm or"
                " train.precision, or look at these samples"
            )

    def _check_weights(self) -> None:
        """A checkpoint whose weights are not finite would hold the run for ever: it is not written."""
        named = [(name, p) for name, p in self.objective.named_parameters() if p.numel()]
        are_finite = torch.stack([torch.isfinite(p).all() for _, p in named]).cpu().tolist()
        bad = [name for (name, _), is_finite in zip(named, are_finite, strict=True) if not is_finite]
        if bad:
            raise NonFiniteLossError(
                f"weights are not finite after epoch {self.now.epoch}, step {self.now.step}: {', '.join(bad[:5])}"
                f" ({len(bad)} of {len(named)} tensors). The last checkpoint is older; lower train.lr, or set"
                " train.clip_norm or train.precision"
            )

    def _wrapped(self) -> Callable[..., Any]:
        if dist.world() == 1:
            return self.objective
        if self.config.batch_norm == "global":
            batchnorm.over_ranks(self.objective, self.device)
        ids = [self.device.index] if self.device.type == "cuda" else None
        # buffers are the same on all ranks by construction, or no forward in training reads them: see
        # _share_statistics
        return DistributedDataParallel(
            self.objective,
            device_ids=ids,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,  # no second copy of the gradient
            # each step is the same graph, but for passes without an exchange, recomputed and compiled ones
            static_graph=self.config.accumulate == 1 and not (self.config.checkpointing or self.config.compile),
        )

    def _autocast(self) -> torch.autocast:
        dtype = AUTOCAST.get(self.config.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def _seed(self, purpose: str) -> None:
        """Dropout and drop path of a pass: the model's draws at this step do not depend on earlier passes."""
        torch.manual_seed(seed_of(self.seed, purpose, self.now.epoch, self.now.step, dist.rank()))

    def _of_samples(self, values: np.ndarray | None, ids: Tensor) -> Tensor | None:
        """float32 [N] of a plan on the host -> float32 [b] on the device; None stays None."""
        return None if values is None else sent(torch.from_numpy(values[ids.numpy()]), self.device)

    def _data_seconds(self) -> float:
        return self.now.data_seconds + self.loader.wait_seconds

    def _tick(self) -> None:
        clock = time.perf_counter()
        self.now.seconds += clock - self._clock
        self.now.epoch_seconds += clock - self._clock
        self._clock = clock


def _by_step(rows: Tensor, steps: int) -> Tensor:
    """[ranks * steps * b, ...], rank by rank -> [steps, ranks * b, ...], each step in rank order."""
    of_ranks = rows.view(dist.world(), steps, -1, *rows.shape[1:])
    return of_ranks.transpose(0, 1).flatten(1, 2)
