"""How a model is trained: optimizer, schedule, regularisation. Architectures name their recipes; a run may change single values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import keras

Loss = Literal["laplace", "mae", "mse", "mape", "mse_physical"]

_CHOICES = {
    "loss": get_args(Loss),
    "optimizer": ("adamw", "adam", "lookahead_lamb"),
    "schedule": ("cosine", "triangular", "step", "constant"),
    "keep": ("last", "best"),
}
_POSITIVE = (
    *("learning_rate", "epochs", "cycle_epochs", "cosine_epochs", "step_epochs", "step_factor", "batch_size"),
    *("ema", "clip_norm", "clip_norm_each", "swa_epochs", "patience", "accumulation"),
)


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run besides the data, the model and the seed.

    Attributes:
        loss: of a regression target, see `training.losses`: ``laplace`` (needs an output with a log-scale), ``mae`` or ``mse`` in scaled
            units, ``mape`` (a fraction) or ``mse_physical`` in the target's unit. All but ``laplace`` leave an output's log-scale as it
            was initialised, so its uncertainties mean nothing. A binary target always has the cross-entropy.
        optimizer: ``adamw`` (decay not on biases, norms and scalars), ``adam`` (no decay) or ``lookahead_lamb`` (`training.optimizers`).
        learning_rate: peak rate.
        rates: factors on the learning rate, and on the weight decay, of single layers: pairs of a layer's name (``*`` and ``?`` as in
            `fnmatch`; or the name of one of the architecture's parts) and a factor; the first that matches a layer counts. A mapping
            is accepted too. 0 leaves a layer as it is (with `ema`, up to rounding).
        schedule: ``cosine`` to `final_rate` after a linear warm-up, ``triangular`` cycles, ``step`` (down every `step_epochs`), or
            ``constant``.
        warmup: share of the cosine's steps with rising rate (cosine only).
        cosine_epochs: length of the cosine, warm-up included, if it is not the run's; afterwards the rate stays as it is (cosine only).
        final_rate: where the cosine ends (cosine only).
        cycle_epochs: epochs from the lowest to the highest rate (triangular only).
        lowest_rate: bottom of the triangular cycle.
        step_epochs: epochs at one rate (step only).
        step_factor: between one rate and the next (step only).
        weight_decay: decoupled weight decay.
        clip_norm: largest norm of the whole gradient; None = no clipping.
        clip_norm_each: largest norm of the gradient of each weight, instead.
        ema: decay of the moving average of the weights that is used for validation and kept at the end; None = none.
        keep: the weights of the ``last`` epoch, or those of the epoch with the lowest validation loss (``best``; with `ema` its moving
            averages, which are what is validated).
        patience: the run ends after so many epochs without a lower validation loss (needs ``keep="best"``); None = never.
        swa_epochs: every so many epochs the published stochastic weight averaging rule runs (needs validation data); None = never.
        batch_size: None chooses the power of two that gives about 2**`batch_shift` steps per epoch, within `batch_range`.
        batch_shift: 4 as published: 2**round(log2(training rows) - 4).
        batch_range: bounds of that choice.
        accumulation: a step is made of so many parts of a batch, one after the other, whose gradients are averaged: less memory.
        epochs: default length.
        fraction_jitter: relative noise on the atomic fractions of training examples (compositions only).
    """

    loss: Loss = "laplace"
    optimizer: Literal["adamw", "adam", "lookahead_lamb"] = "adamw"
    learning_rate: float = 1e-3
    rates: tuple[tuple[str, float], ...] = ()
    schedule: Literal["cosine", "triangular", "step", "constant"] = "cosine"
    warmup: float = 0.05
    cosine_epochs: int | None = None
    final_rate: float = 0.0
    cycle_epochs: int = 10
    lowest_rate: float = 1e-4
    step_epochs: int = 20
    step_factor: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_norm_each: float | None = None
    ema: float | None = None
    keep: Literal["last", "best"] = "last"
    patience: int | None = None
    swa_epochs: int | None = None
    batch_size: int | None = None
    batch_shift: int = 6
    batch_range: tuple[int, int] = (32, 512)
    accumulation: int = 1
    epochs: int = 100
    fraction_jitter: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {allowed}. Received: {name}={getattr(self, name)!r}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
        if not 0 <= self.final_rate <= self.learning_rate:
            raise ValueError(f"`final_rate` must be from 0 to `learning_rate`. Received: final_rate={self.final_rate}")
        if self.ema is not None and self.swa_epochs is not None:
            raise ValueError("`ema` and `swa_epochs` both average the weights: choose one")
        if self.clip_norm is not None and self.clip_norm_each is not None:
            raise ValueError("`clip_norm` and `clip_norm_each` both clip the gradient: choose one")
        if self.keep == "best" and self.swa_epochs is not None:
            raise ValueError("`keep='best'` and `swa_epochs` both choose the final weights: choose one")
        if self.patience is not None and self.keep != "best":
            raise ValueError(f"`patience` needs keep='best'. Received: keep={self.keep!r}")
        if self.batch_size is not None and self.batch_size % self.accumulation:
            raise ValueError(f"`batch_size` must be a multiple of `accumulation`. Received: {self.batch_size}, {self.accumulation}")
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError("`weight_decay` must be 0 for `adam`: choose `adamw`")
        object.__setattr__(self, "rates", _checked_rates(self.rates))

    def batch_size_for(self, rows: int) -> int:
        """Rows of a batch for a training set of `rows`, never more than the power of two that holds them all."""
        if self.batch_size is not None:
            return self.batch_size
        low, high = self.batch_range
        return int(min(max(2 ** round(math.log2(max(rows, 1)) - self.batch_shift), low), high, 2 ** math.ceil(math.log2(max(rows, 2)))))

    def build_optimizer(self, steps_per_epoch: int, epochs: int) -> keras.optimizers.Optimizer:
        """The optimizer with its schedule for a run of `epochs`; `rates` are set once the model is known.

        With `accumulation` every part counts as a step here, as it does in Keras' schedules and moving averages.
        """
        from tfmat.training.optimizers import Adam, AdamW, LookaheadLamb

        common: dict[str, Any] = {"learning_rate": self._schedule(steps_per_epoch, epochs)}
        common |= {"global_clipnorm": self.clip_norm, "clipnorm": self.clip_norm_each}
        common |= {"gradient_accumulation_steps": self.accumulation} if self.accumulation > 1 else {}
        if self.ema is not None:
            # A short run cannot wait for a slow average to forget the initial weights.
            momentum = min(self.ema, 1.0 - 1.0 / max(steps_per_epoch * epochs * 0.1 / self.accumulation, 1.1))
            common |= {"use_ema": True, "ema_momentum": momentum ** (1.0 / self.accumulation)}
        if self.optimizer == "lookahead_lamb":
            return LookaheadLamb(weight_decay=self.weight_decay or None, **common)
        if self.optimizer == "adam":
            return Adam(epsilon=1e-7, **common)
        optimizer: keras.optimizers.Optimizer = AdamW(weight_decay=self.weight_decay, **common)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "log2_scale", "exponent"])
        return optimizer

    def _schedule(self, steps_per_epoch: int, epochs: int) -> Any:
        import keras

        from tfmat.training.optimizers import TriangularCycle

        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "step":
            steps = self.step_epochs * steps_per_epoch
            return keras.optimizers.schedules.ExponentialDecay(self.learning_rate, steps, self.step_factor, staircase=True)
        if self.schedule == "triangular":
            return TriangularCycle(self.lowest_rate, self.learning_rate, self.cycle_epochs * steps_per_epoch)
        total = steps_per_epoch * (self.cosine_epochs or epochs)
        warmup = min(max(1, round(self.warmup * total)), total - 1) if total > 1 else 0
        return keras.optimizers.schedules.CosineDecay(
            self.learning_rate / max(warmup, 1),
            total - warmup,
            alpha=self.final_rate / self.learning_rate,
            warmup_target=self.learning_rate,
            warmup_steps=warmup,
        )

    def to_config(self) -> dict[str, Any]:
        """JSON-able dictionary; `Recipe.from_config` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Recipe:
        """A recipe from `to_config`'s dictionary; what an older tfmat did not have yet keeps its default."""
        return cls(**(config | {"batch_range": tuple(config["batch_range"])}))


def _checked_rates(rates: Any) -> tuple[tuple[str, float], ...]:
    pairs = list(rates.items() if isinstance(rates, Mapping) else rates)
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(f"`rates` must be pairs of a layer's name and a factor. Received: {pair!r}")
        if isinstance(pair[1], bool) or not isinstance(pair[1], (int, float)) or not 0 <= pair[1] < math.inf:
            raise ValueError(f"a factor in `rates` must be a number from 0 on. Received: {pair[0]}={pair[1]!r}")
    return tuple((str(name), float(factor)) for name, factor in pairs)
