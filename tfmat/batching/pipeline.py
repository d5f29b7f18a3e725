"""The one way from featurized records to `fit`, `evaluate` and `predict`: batches of arrays, and tf.data or a `PyDataset` of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfmat.batching.arrays import Arrays, batch_arrays, is_lists, padded_keys, target_arrays
from tfmat.batching.plan import Plan, plan_of
from tfmat.records import Records

if TYPE_CHECKING:
    import tensorflow as tf

Batch = tuple[Arrays, Arrays, Arrays]
"""Inputs, targets (B, 1) and loss weights (B,), each by name."""


@dataclass
class Batches:
    """Records, scaled targets and the plan that turns them into batches.

    Attributes:
        records: featurized examples.
        targets: name -> scaled values (N,), NaN = missing; empty for prediction.
        plan: which examples form which batch.
        fraction_jitter: relative noise on ``fractions``, seeded by `seed`, the epoch and the step.
        seed: of the noise.
        filled: fill batches up to few shapes, each of which a compiler of static shapes has to compile.
        missing: stands in the place of a target that is missing, whose weight is 0.
    """

    records: Records
    targets: Mapping[str, np.ndarray]
    plan: Plan
    fraction_jitter: float = 0.0
    seed: int = 0
    filled: bool = False
    missing: float = math.nan
    _last: tuple[int, list[np.ndarray]] | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(
        cls,
        records: Records,
        targets: Mapping[str, np.ndarray],
        batch_size: int,
        *,
        inputs: Collection[str] | None = None,
        seed: int | None = None,
        fraction_jitter: float = 0.0,
        missing: float = math.nan,
    ) -> Batches:
        """Batch for the backend that Keras runs on.

        Args:
            records: featurized examples.
            targets: name -> scaled values (N,).
            batch_size: most rows per batch.
            inputs: names of the model's inputs; other keys are left out. Default: all keys.
            seed: of the shuffling and the noise; None keeps the order of the data, or of their lengths.
            fraction_jitter: relative noise on ``fractions``.
            missing: stands in the place of a target that is missing. Keras' own losses need a finite number.
        """
        if inputs is not None:
            records = records.select([key for key in records.values if key in inputs])
        filled = keras.backend.backend() != "tensorflow"
        return cls(records, targets, plan_of(records, batch_size, seed), fraction_jitter, seed or 0, filled, missing)

    def epoch(self, epoch: int, parts: int = 1) -> Iterator[Batch]:
        """Batches of one epoch.

        With several `parts` each of them comes as so many batches of equally many rows, one after the other: one for each replica; empty
        rows fill them up.
        """
        for step in range(self.plan.steps):
            yield from self.step(epoch, step, parts)

    def step(self, epoch: int, step: int, parts: int = 1) -> list[Batch]:
        """Make one batch, in parts."""
        indices = self._planned(epoch)[step]
        rows = self.plan.rows if self.filled else len(indices)
        each = -(-rows // parts)
        if is_lists(self.records):
            inputs = [batch_arrays(self.records, indices[i * each : (i + 1) * each], each, self.filled) for i in range(parts)]
        else:  # one row per example: noise and padding are those of the whole batch
            whole = batch_arrays(self.records, indices, each * parts, self.filled)
            if self.fraction_jitter:
                whole["fractions"] = jittered(whole["fractions"], self.fraction_jitter, (self.seed, epoch, step))
            inputs = _parts(whole, parts)
        targets, weights = target_arrays(self.targets, indices, each * parts, self.missing)
        return list(zip(inputs, _parts(targets, parts), _parts(weights, parts), strict=True))

    def _planned(self, epoch: int) -> list[np.ndarray]:
        """The plan of an epoch, kept until another one is asked for."""
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, self.plan.epoch(epoch)
        return self._last[1]

    def dataset(self, *, first_epoch: int = 0, repeat: bool = False, parts: int = 1) -> tf.data.Dataset:
        """The batches as a `tf.data.Dataset` of (inputs, targets, weights).

        Args:
            first_epoch: where to begin, so that a resumed run continues the shuffle of an uninterrupted one.
            repeat: go on with the next epoch for ever (training, with ``steps_per_epoch=plan.steps``), or stop after one; iterated over
                again, it gives the next one.
            parts: see `epoch`.
        """
        import tensorflow as tf

        following = itertools.count(first_epoch)

        def generate() -> Iterator[Batch]:
            for epoch in itertools.count(first_epoch) if repeat else [next(following)]:
                yield from self.epoch(epoch, parts)

        padded = padded_keys(self.records)
        inputs, targets, weights = self.step(first_epoch, 0, parts)[0]
        free = {key: (None, None, *array.shape[2:]) if key in padded else (None, *array.shape[1:]) for key, array in inputs.items()}
        signature = (
            {key: tf.TensorSpec(free[key], array.dtype) for key, array in inputs.items()},
            {name: tf.TensorSpec((None, 1), tf.float32) for name in targets},
            {name: tf.TensorSpec((None,), tf.float32) for name in weights},
        )
        dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        count = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY if repeat else self.plan.steps * parts)
        return dataset.apply(count).prefetch(4 * parts).with_options(options)

    def feed(self) -> tf.data.Dataset | BatchSequence:
        """Make what ``fit`` and ``evaluate`` of Keras take on the backend that Keras runs on; each pass over it is the next epoch."""
        return self.dataset() if keras.backend.backend() == "tensorflow" else BatchSequence(self)


def _parts(arrays: Arrays, parts: int) -> list[Arrays]:
    """The rows in equal parts."""
    split = {name: np.split(array, parts) for name, array in arrays.items()}
    return [{name: pieces[i] for name, pieces in split.items()} for i in range(parts)]


class BatchSequence(keras.utils.PyDataset):
    """Batches for `fit` on the backends of Keras other than TensorFlow, one epoch after the other.

    `fit` must be given no ``steps_per_epoch``. To go on with another epoch than the next one, call `begin` before it.

    Args:
        batches: the plan and its data.
        first_epoch: where to begin.
    """

    def __init__(self, batches: Batches, first_epoch: int = 0) -> None:
        super().__init__()
        self.batches = batches
        self.begin(first_epoch)

    def begin(self, epoch: int) -> None:
        """Go to an epoch, counted from 0: its batches depend on the plan's seed and this number alone."""
        self.epoch = epoch

    def on_epoch_end(self) -> None:
        """Go to the next epoch, as Keras tells after each."""
        self.epoch += 1

    def __len__(self) -> int:
        return self.batches.plan.steps

    def __getitem__(self, index: int) -> Batch:
        """Inputs, targets (B, 1) and loss weights (B,) of one step."""
        return self.batches.step(self.epoch, index)[0]


def jittered(fractions: np.ndarray, scale: float, seed: tuple[int, ...]) -> np.ndarray:
    """Multiply every fraction (B, E) by 1 + scale N(0, 1), clip to [0, 1] and renormalise; padding stays 0.

    Args:
        fractions: float32 (B, E), 0 = padding.
        scale: relative standard deviation.
        seed: the same numbers give the same noise.
    """
    noise = np.random.default_rng(seed).standard_normal(fractions.shape, np.float32)
    noisy = np.clip(fractions * (1.0 + np.float32(scale) * noise), 0.0, 1.0)
    return noisy / np.maximum(noisy.sum(axis=1, keepdims=True), np.float32(1e-12))
