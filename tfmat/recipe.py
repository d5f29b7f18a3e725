"""How a model is trained: optimizer, schedule, regularisation. Architectures name their recipes; a run may change single values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run besides the data, the model and the seed.

    Attributes:
        optimizer: ``adamw`` (decay not on biases, norms and scalars) or ``lookahead_lamb`` (see `tfmat.optimizers`).
        learning_rate: peak rate.
        schedule: ``cosine`` to zero after a linear warm-up, ``triangular`` cycles, or ``constant``.
        warmup: share of the steps with rising rate (cosine only).
        cycle_epochs: epochs from the lowest to the highest rate (triangular only).
        lowest_rate: bottom of the triangular cycle.
        weight_decay: decoupled weight decay.
        clip_norm: global gradient norm; None = no clipping.
        ema: decay of the moving average of the weights that is used for validation and kept at the end; None = none.
        swa_epochs: every so many epochs the published stochastic weight averaging rule runs (needs validation data); None = never.
        batch_size: None chooses the power of two that gives about 2**`batch_shift` steps an epoch, within `batch_range`.
        batch_shift: 4 as published: 2**round(log2(training rows) - 4).
        batch_range: bounds of that choice.
        epochs: default length.
        fraction_jitter: relative noise on the atomic fractions of training examples (compositions only).
    """

    optimizer: Literal["adamw", "lookahead_lamb"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "triangular", "constant"] = "cosine"
    warmup: float = 0.05
    cycle_epochs: int = 10
    lowest_rate: float = 1e-4
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema: float | None = None
    swa_epochs: int | None = None
    batch_size: int | None = None
    batch_shift: int = 6
    batch_range: tuple[int, int] = (32, 512)
    epochs: int = 100
    fraction_jitter: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", ("adamw", "lookahead_lamb")), ("schedule", ("cosine", "triangular", "constant"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {allowed}. Received: {name}={getattr(self, name)!r}")
        for name in ("learning_rate", "epochs", "cycle_epochs", "batch_size", "ema", "clip_norm", "swa_epochs"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
        if self.ema is not None and self.swa_epochs is not None:
            raise ValueError("`ema` and `swa_epochs` both average the weights: choose one")

    def batch_size_for(self, rows: int) -> int:
        """Rows of a batch for a training set of `rows`, never more than the power of two that holds them all."""
        if self.batch_size is not None:
            return self.batch_size
        low, high = self.batch_range
        return int(min(max(2 ** round(math.log2(max(rows, 1)) - self.batch_shift), low), high, 2 ** math.ceil(math.log2(max(rows, 2)))))

    def build_optimizer(self, steps_per_epoch: int, epochs: int) -> keras.optimizers.Optimizer:
        """The optimizer with its schedule for a run of `epochs`."""
        import keras

        from tfmat.optimizers import LookaheadLamb

        common: dict[str, Any] = {"learning_rate": self._schedule(steps_per_epoch, epochs), "global_clipnorm": self.clip_norm}
        if self.ema is not None:
            # A short run cannot wait for a slow average to forget the initial weights.
            common |= {"use_ema": True, "ema_momentum": min(self.ema, 1.0 - 1.0 / max(steps_per_epoch * epochs * 0.1, 1.1))}
        if self.optimizer == "lookahead_lamb":
            return LookaheadLamb(weight_decay=self.weight_decay or None, **common)
        optimizer = keras.optimizers.AdamW(weight_decay=self.weight_decay, **common)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "log2_scale", "exponent"])
        return optimizer

    def _schedule(self, steps_per_epoch: int, epochs: int) -> Any:
        import keras

        from tfmat.optimizers import TriangularCycle

        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "triangular":
            return TriangularCycle(self.lowest_rate, self.learning_rate, self.cycle_epochs * steps_per_epoch)
        total = steps_per_epoch * epochs
        warmup = min(max(1, round(self.warmup * total)), total - 1) if total > 1 else 0
        return keras.optimizers.schedules.CosineDecay(
            self.learning_rate / max(warmup, 1), total - warmup, warmup_target=self.learning_rate, warmup_steps=warmup
        )

    def to_config(self) -> dict[str, Any]:
        """JSON-able dictionary; `Recipe.from_config` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Recipe:
        """A recipe from `to_config`'s dictionary."""
        return cls(**(config | {"batch_range": tuple(config["batch_range"])}))
