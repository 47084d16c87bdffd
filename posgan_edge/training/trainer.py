"""The training loop: epochs, averaged weights, checkpoints with exact resume, tracking."""

from __future__ import annotations

import copy
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posgan_edge.errors import BadInput
from posgan_edge.files import replaced
from posgan_edge.geometry.layout import load_layout
from posgan_edge.models.checkpoints import generator_state, load_generator, load_torch_file
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.models.registry import Generator, build_generator, to_memory_format
from posgan_edge.training.augment import augment_maps
from posgan_edge.training.basis import read_expressions, set_basis_from, transfer
from posgan_edge.training.began import Began
from posgan_edge.training.datasets import AugmentedMaps, EpochBatches, FaceMaps
from posgan_edge.training.losses import MapLoss
from posgan_edge.training.muon import Muon, takes
from posgan_edge.training.recipe import Recipe
from posgan_edge.training.validation import validation_nme

#: Openness (height over width) of an eye that is closed, and of a mouth that is open.
CLOSED_EYE, OPEN_MOUTH = 0.16, 0.3

#: Called with (epoch, step of the epoch, steps per epoch, values) while training runs.
Progress = Callable[[int, int, int, dict[str, float]], None]


class Trainer:
    """One training run. ``train`` answers the validation NME of the averaged weights.

    On GPUs it runs in mixed precision and, under ``torchrun``, data-parallel; on a CPU it
    flushes denormals, which makes these networks several times faster.
    """

    def __init__(self, recipe: Recipe, data: FaceMaps, validation: FaceMaps | None) -> None:
        self.recipe, self.data, self.validation = recipe, data, validation
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.device = _device()
        _configure(recipe, self.device, self.world)
        torch.manual_seed(recipe.seed)
        self.generator = to_memory_format(
            self._new_generator().to(self.device), torch.channels_last
        )
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator.train()
        self.network: nn.Module = self.generator
        if self.world > 1:
            self.network = nn.parallel.DistributedDataParallel(self.generator)
        layout, size = load_layout(self.generator.layout), self.generator.map_size
        self.loss = MapLoss(layout, size, recipe.losses).to(self.device)
        self.optimizers = _optimizers(self.generator, recipe)
        amp = recipe.mixed_precision and self.device.type == "cuda"
        self.amp, self.scaler = amp, torch.amp.GradScaler(self.device.type, enabled=amp)
        adversarial = recipe.adversarial
        self.began = Began(adversarial, size, self.device) if adversarial.enabled else None
        self.epoch = self.step = self.samples = 0
        self.elapsed = 0.0
        self.history: list[dict[str, float]] = []
        self.batches = EpochBatches(
            len(data), recipe.batch_size, recipe.seed, self.rank, self.world, _shares(recipe, data)
        )
        self.loader = torch.utils.data.DataLoader(
            AugmentedMaps(data, self.generator.input_size, recipe.augmentation, recipe.seed),
            batch_sampler=self.batches,
            num_workers=recipe.workers,
            persistent_workers=False,
            worker_init_fn=_quiet_worker,
        )

    def train(self, on_progress: Progress | None = None) -> float | None:
        """Runs the next epoch (pre-training the discriminator before the first)."""
        if self.began is not None and self.epoch == 0:
            for _ in range(self.recipe.adversarial.pretrain_epochs):
                self._run_epoch(on_progress, pretrain=True)
        values = self._run_epoch(on_progress, pretrain=False)
        self.epoch += 1
        nme = None
        if self.validation is not None and self.rank == 0:
            nme = validation_nme(self.average, self.validation, self.device)
            values["val_nme"] = nme
        self.history.append(
            {"epoch": self.epoch, "samples": self.samples, "minutes": self.elapsed / 60, **values}
        )
        return nme

    @property
    def done(self) -> bool:
        """True when the recipe's epochs or its minutes are used up."""
        budget = self.recipe.budget_minutes * 60
        return self.epoch >= self.recipe.epochs or bool(budget and self.elapsed >= budget)

    def learning_rate(self) -> float:
        """The rate of the next step: warm-up, then cosine or exponential decay."""
        config, recipe = self.recipe.optimizer, self.recipe
        warm = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
        epochs = self.step / len(self.batches)
        if config.schedule == "exponential":
            return config.lr * warm * config.decay ** int(epochs)
        done = epochs / recipe.epochs
        if recipe.budget_minutes:
            done = max(done, self.elapsed / (60 * recipe.budget_minutes))
        return config.lr * warm * (0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.001)

    def _run_epoch(self, on_progress: Progress | None, pretrain: bool) -> dict[str, float]:
        # Pre-training draws from epochs below zero, so that training sees the same samples
        # with and without it.
        self.batches.epoch = self.epoch if not pretrain else 2**31 + self.epoch
        sums: dict[str, float] = defaultdict(float)
        last = time.monotonic()
        for index, batch in enumerate(self.loader):
            values = self._step(batch, pretrain)
            now = time.monotonic()
            self.elapsed, last = self._agreed(self.elapsed + now - last), now
            for name, value in values.items():
                sums[name] += value
            if on_progress is not None and self.rank == 0:
                on_progress(self.epoch, index + 1, len(self.batches), values)
            if not pretrain and self.recipe.budget_minutes and self.done:
                break
        return {name: value / (index + 1) for name, value in sums.items()}

    def _agreed(self, seconds: float) -> float:
        # The schedule and the end of a run follow this clock: ranks that read their own would
        # take different steps, and one would wait for ever for another that has stopped.
        if self.world == 1 or not self.recipe.budget_minutes:
            return seconds
        clock = torch.tensor(seconds, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(clock, 0)
        return float(clock)

    def _step(self, batch: list[Tensor], pretrain: bool) -> dict[str, float]:
        images, flipped, transforms, targets = (t.to(self.device, non_blocking=True) for t in batch)
        images = images.permute(0, 3, 1, 2).float().div_(255)
        with torch.no_grad():
            maps = augment_maps(self.data.maps(targets), flipped, transforms)
            maps = _match(maps, self.generator.map_size)
        if pretrain:
            assert self.began is not None
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

    def _new_generator(self) -> Generator:
        recipe = self.recipe
        options = {"layout": self.data.layout, **recipe.generator}
        name = options.pop("name")
        source = load_generator(recipe.init) if recipe.init else None
        if source is not None and (not isinstance(source, EdgeGenerator) or not recipe.refit):
            return source
        generator = build_generator(name, **options)
        if isinstance(generator, EdgeGenerator):
            expressions = None
            if recipe.expressions:
                expressions = read_expressions(recipe.expressions, recipe.expression_weight)
            set_basis_from(generator, self.data, expressions)
            if source is not None:
                transfer(source, generator)
        return generator

    def save(self, path: Path) -> None:
        """Writes everything a resume needs (atomically); rank 0 only."""
        if self.rank:
            return
        state: dict[str, Any] = {
            "recipe": asdict(self.recipe),
            "epoch": self.epoch,
            "step": self.step,
            "samples": self.samples,
            "elapsed": self.elapsed,
            "history": self.history,
            "generator": generator_state(self.generator),
            "generator_ema": generator_state(self.average),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if self.began is not None:
            state["began"] = self.began.state()
        with replaced(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> None:
        """Continues exactly where ``save`` was called."""
        state = load_torch_file(path)
        if "optimizers" not in state:
            raise BadInput(f"{path}: not a training checkpoint (weights alone go into 'init')")
        self.generator.load_state_dict(state["generator"]["weights"])
        self.average.load_state_dict(state["generator_ema"]["weights"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        if self.began is not None and "began" in state:
            self.began.load(state["began"])
        for name in ("epoch", "step", "samples", "elapsed", "history"):
            setattr(self, name, state[name])
        torch.set_rng_state(state["rng"])


def _match(maps: Tensor, size: int) -> Tensor:
    if maps.shape[-1] == size:
        return maps
    return nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def _configure(recipe: Recipe, device: torch.device, world: int) -> None:
    if device.type == "cpu":
        torch.set_flush_denormal(True)
    else:
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    if world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def _shares(recipe: Recipe, data: FaceMaps) -> NDArray[np.float32] | None:
    shares = np.ones(len(data), np.float32)
    for name, values in (
        ("profiles", None if data.yaw is None else np.minimum(np.abs(data.yaw) / 60, 1)),
        ("closed_eyes", None if data.eyes is None else data.eyes.min(1) < CLOSED_EYE),
        ("open_mouths", None if data.mouth is None else data.mouth > OPEN_MOUTH),
    ):
        share = getattr(recipe, name)
        if share == 1:
            continue
        if values is None:
            raise BadInput(f"{name} = {share:g} needs a pack that holds its values: use 1")
        if share <= 0:
            raise BadInput(f"{name} = {share:g} is not above 0")
        shares *= 1 + (share - 1) * values
    return None if (shares == 1).all() else shares


def _optimizers(generator: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    config, parameters = recipe.optimizer, list(generator.parameters())
    if config.name == "adam":
        return [torch.optim.Adam(parameters, lr=config.lr, betas=config.betas)]
    if config.name not in ("adamw", "muon"):
        raise BadInput(f"unknown optimizer {config.name!r}: use 'adamw', 'muon' or 'adam'")
    muon = [p for p in parameters if config.name == "muon" and takes(p)]
    taken = {id(p) for p in muon}
    rest = [p for p in parameters if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    if not muon:
        return [adamw]
    return [Muon(muon, config.lr, config.momentum, config.weight_decay), adamw]


def _quiet_worker(_: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    np.seterr(all="ignore")
