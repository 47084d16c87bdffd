"""The training loop: epochs, averaged weights, checkpoints with exact resume."""

from __future__ import annotations

import copy
import math
import os
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn

from posgan_edge.errors import BadInput
from posgan_edge.geometry.layout import load_layout
from posgan_edge.models.registry import to_memory_format
from posgan_edge.progress import Progress, silent
from posgan_edge.training.augment import augment_maps
from posgan_edge.training.began import Began
from posgan_edge.training.datasets import AugmentedMaps, EpochBatches, FaceMaps
from posgan_edge.training.loading import Loader
from posgan_edge.training.losses import MapLoss
from posgan_edge.training.recipe import Recipe
from posgan_edge.training.setup import (
    configure,
    device_here,
    new_generator,
    optimizers_of,
    shares_of,
)
from posgan_edge.training.state import load_state, resume, save_state
from posgan_edge.training.validation import validation_nme

#: Seconds between saves within an epoch. Even with a slow step and a slow save, a process that is
#: killed loses less than five minutes of work.
SAVE_SECONDS = 240.0


class Trainer:
    """One training run, epoch by epoch.

    On GPUs it runs in mixed precision and, under ``torchrun``, data-parallel; on a CPU it
    flushes denormals, which makes these networks several times faster. ``latest`` holds the
    values of the last step, ``history`` those of each epoch.

    >>> trainer = Trainer(recipe, data, validation)  # doctest: +SKIP
    >>> while not trainer.done:  # doctest: +SKIP
    ...     trainer.train()
    """

    def __init__(self, recipe: Recipe, data: FaceMaps, validation: FaceMaps | None) -> None:
        self.recipe, self.data, self.validation = recipe, data, validation
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.device = device_here()
        configure(recipe, self.device, self.world)
        torch.manual_seed(recipe.seed)
        self.generator = to_memory_format(
            new_generator(recipe, data).to(self.device), torch.channels_last
        )
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator.train()
        self.network: nn.Module = self.generator
        if self.world > 1:
            self.network = nn.parallel.DistributedDataParallel(self.generator)
        layout, size = load_layout(self.generator.layout), self.generator.map_size
        self.loss = MapLoss(layout, size, recipe.losses).to(self.device)
        self.optimizers = optimizers_of(self.generator, recipe)
        amp = recipe.mixed_precision and self.device.type == "cuda"
        self.amp, self.scaler = amp, torch.amp.GradScaler(self.device.type, enabled=amp)
        adversarial = recipe.adversarial
        self.began = Began(adversarial, size, self.device) if adversarial.enabled else None
        self.epoch = self.step = self.samples = 0
        self.elapsed = 0.0
        self.history: list[dict[str, int | float | None]] = []
        self.latest: dict[str, float] = {}
        self.position = self.pretrained = 0
        self.stopped_by = self._signal = 0
        self.sums: dict[str, float] = defaultdict(float)
        self._saved = time.monotonic()
        self.batches = EpochBatches(
            len(data),
            recipe.batch_size,
            recipe.seed,
            self.rank,
            self.world,
            shares_of(recipe, data),
        )
        faces = AugmentedMaps(data, self.generator.input_size, recipe.augmentation, recipe.seed)
        self.loader = Loader(faces, self.batches, recipe.workers, recipe.seed)

    def train(self, progress: Progress = silent, last: Path | None = None) -> float | None:
        """Runs the next epoch, or the rest of it after ``resume``.

        Before the first epoch, the discriminator is trained alone. A long epoch is saved to
        ``last`` every few minutes. Returns the validation NME of the averaged weights in percent.
        Returns None without validation data, and if ``request_stop`` ended the epoch early. In
        that case ``stopped_by`` is not 0, and ``save`` then saves the position in the epoch.
        """
        self._saved = time.monotonic()
        if self._stopping():
            return None
        passes = self.recipe.adversarial.pretrain_epochs if self.began and not self.epoch else 0
        while self.pretrained < passes:
            self._run_pass(f"pre-training {self.pretrained + 1}", progress, last, pretrain=True)
            if self.stopped_by:
                return None
            self.pretrained += 1
            self._end_pass()
        self._run_pass(f"epoch {self.epoch + 1}", progress, last, pretrain=False)
        nme = None
        if self.validation is not None and self.rank == 0 and not self.stopped_by:
            nme = validation_nme(
                self.average, self.validation, self.device, lambda: bool(self._signal)
            )
        # After a stop during validation the epoch is not finished: a resume validates again.
        if self._stopping():
            return None
        means = {name: value / self.position for name, value in self.sums.items()}
        self.epoch += 1
        self._end_pass()
        entry: dict[str, int | float | None] = {"epoch": self.epoch, "samples": self.samples}
        entry |= {"minutes": self.elapsed / 60, **means}
        self.history.append(entry | ({} if nme is None else {"val_nme": nme}))
        return nme

    def request_stop(self, signal: int) -> None:
        """Ends ``train`` after the current step, in every process of the run.

        ``signal`` is a number above 0; ``stopped_by`` is set to it. This may be called at any time,
        also from a signal handler.
        """
        self._signal = signal

    @property
    def asked_to_stop(self) -> int:
        """The signal that ``request_stop`` was called with in this process, else 0."""
        return self._signal

    @property
    def done(self) -> bool:
        """Whether all epochs or minutes of the recipe are used up, and no epoch is unfinished."""
        return not self.position and (self.epoch >= self.recipe.epochs or self._late())

    def _late(self) -> bool:
        budget = self.recipe.budget_minutes * 60
        return bool(budget and self.elapsed >= budget)

    def learning_rate(self) -> float:
        """Returns the learning rate of the next step: warm-up, then cosine or exponential decay."""
        config, recipe = self.recipe.optimizer, self.recipe
        warm = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
        epochs = self.step / len(self.batches)
        if config.schedule == "exponential":
            return config.lr * warm * config.decay ** int(epochs)
        done = epochs / recipe.epochs
        if recipe.budget_minutes:
            done = max(done, self.elapsed / (60 * recipe.budget_minutes))
        return config.lr * warm * (0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.001)

    def _run_pass(self, what: str, progress: Progress, last: Path | None, pretrain: bool) -> None:
        """Trains on the batches of an epoch from ``position`` on."""
        # Pre-training draws from epochs below zero, so that training sees the same samples
        # with and without it.
        self.batches.epoch = self.epoch if not pretrain else 2**31 + self.epoch
        self.batches.start = self.position
        clock = time.monotonic()
        for batch in self.loader:
            self.latest = self._step(batch, pretrain)
            self.position += 1
            for name, value in self.latest.items():
                self.sums[name] += value
            now = time.monotonic()
            self.elapsed, self.stopped_by = self._agreed(self.elapsed + now - clock)
            clock = now
            if self.rank == 0:
                progress(what, self.position, len(self.batches))
            if self.stopped_by or (not pretrain and self._late()):
                break
            if last is not None and now - self._saved >= SAVE_SECONDS:
                self.save(last)

    def _end_pass(self) -> None:
        self.position = 0
        self.sums.clear()

    def _stopping(self) -> bool:
        _, self.stopped_by = self._agreed(self.elapsed)
        return bool(self.stopped_by)

    def _agreed(self, seconds: float) -> tuple[float, int]:
        """Returns rank 0's clock in seconds, and the signal that any rank received.

        All ranks must use the same values for the schedule and for stopping. Otherwise they would
        take different steps, and one would wait for ever for another that has stopped.
        """
        if self.world == 1:
            return seconds, self._signal
        mine = [seconds if self.rank == 0 else 0.0, float(self._signal)]
        shared = torch.tensor(mine, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return float(shared[0]), int(shared[1])

    def _step(self, batch: list[Tensor], pretrain: bool) -> dict[str, float]:
        images, flipped, transforms, targets = (t.to(self.device, non_blocking=True) for t in batch)
        images = images.permute(0, 3, 1, 2).float().div_(255)
        with torch.no_grad():
            maps = augment_maps(self.data.maps(targets), flipped, transforms)
            maps = _match(maps, self.generator.map_size)
        if pretrain and self.began is not None:
            return self.began.step(images, maps, None)
        rate = self.learning_rate()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            predicted = self.network(images)
        predicted = predicted.float()
        loss, parts = self.loss(predicted, maps)
        if self.began is not None:
            term = self.began.generator_term(images, predicted)
            loss = loss + self.recipe.adversarial.weight * term
        self.scaler.scale(loss).backward()
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(self.generator.parameters(), self.recipe.optimizer.clip_norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.step += 1
        self.samples += len(images) * self.world
        self._update_average()
        values = {name: float(part) for name, part in parts.items()}
        if self.began is not None:
            values |= self.began.step(images, maps, predicted)
        if not math.isfinite(values["nme"]):
            raise BadInput(f"training diverged at step {self.step}: lower optimizer.lr")
        return {**values, "lr": rate}

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.recipe.ema, 1 - 1 / (self.step / 4 + 1)) if self.recipe.ema else 0.0
        pairs = zip(
            self.average.state_dict().values(), self.generator.state_dict().values(), strict=True
        )
        floats = [(a, g) for a, g in pairs if a.dtype.is_floating_point]
        torch._foreach_lerp_([a for a, _ in floats], [g for _, g in floats], 1 - keep)

    def save(self, path: Path) -> None:
        """Writes everything that a resume needs, atomically; only rank 0 writes.

        Raises BadInput if it cannot be written; an earlier file then stays.
        """
        self._saved = time.monotonic()
        if self.rank:
            return
        save_state(path, self)

    def resume(self, path: Path) -> None:
        """Continues exactly where ``save`` was called, also in the middle of an epoch.

        Raises BadInput if the file is not a training checkpoint, or is from another network,
        optimiser, or (in the middle of an epoch) number of batches.
        """
        resume(self, load_state(path), path)

    def wait_for_others(self) -> None:
        """Waits until every process of the run has called this."""
        if self.world > 1:
            torch.distributed.barrier()


def _match(maps: Tensor, size: int) -> Tensor:
    if maps.shape[-1] == size:
        return maps
    return nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
