"""The one way from featurized records to `fit`, `evaluate` and `predict`: batches of arrays, and tf.data of them for TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmat.batch import Arrays, BatchPlan, PlannedBatch, SortedPlan, pad, pad_targets, wide
from tfmat.buckets import SLOTTED, Sizes, choose_buckets, largest
from tfmat.records import Records

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Batches:
    """Records, scaled targets and the plan that turns them into batches.

    Attributes:
        records: featurized examples.
        targets: name -> scaled values (N,), NaN = missing; empty for prediction.
        plan: which examples form which batch.
        widths: of each bucket: key -> length of axis 1.
    """

    records: Records
    targets: Mapping[str, np.ndarray]
    plan: BatchPlan | SortedPlan
    widths: tuple[Mapping[str, int], ...]

    @classmethod
    def of(
        cls,
        records: Records,
        targets: Mapping[str, np.ndarray],
        batch_size: int,
        *,
        seed: int | None = None,
        max_buckets: int = 8,
        least_saving: float = 0.0,
        multiple: int = 8,
        flat: bool = False,
    ) -> Batches:
        """Bucket by the longest key, and by neighbour slots where there are some, and batch.

        Args:
            records: featurized examples.
            targets: name -> scaled values (N,).
            batch_size: rows of a batch.
            seed: of the shuffling; None keeps the order of the data within each bucket.
            max_buckets: most buckets.
            least_saving: padded slots, or pairs of neighbour slots, an epoch that a further bucket must save.
            multiple: of the rows of a bucket that has fewer examples than `batch_size`.
            flat: the model works on real sites only, see `tfmat.data.static_shapes.drops_padding`.
        """
        sizes = Sizes.of(records, flat)
        bucket_of = choose_buckets(sizes, batch_size, limit=max_buckets, least=least_saving, multiple=multiple)
        return cls._planned(records, targets, BatchPlan(sizes, bucket_of, batch_size, seed, multiple))

    @classmethod
    def sorted(cls, records: Records, batch_size: int, flat: bool = False) -> Batches:
        """For prediction without XLA: batches of about equal sizes, see `tfmat.batch.SortedPlan`; `flat` as in `of`."""
        return cls._planned(records, {}, SortedPlan(Sizes.of(records, flat), batch_size))

    @classmethod
    def _planned(cls, records: Records, targets: Mapping[str, np.ndarray], plan: BatchPlan | SortedPlan) -> Batches:
        longest = {key: largest(records.lengths(key), plan.bucket_of, len(plan.rows)).tolist() for key in records.values}
        return cls(records, targets, plan, tuple({key: widths[b] for key, widths in longest.items()} for b in range(len(plan.rows))))

    def epoch(self, epoch: int, parts: int = 1) -> Iterator[tuple[Arrays, Arrays, Arrays, np.ndarray]]:
        """Batches of one epoch: inputs, targets (B, 1), loss weights (B,), and the stamp (epoch, step) int32 (2,).

        B is a multiple of `parts`: empty rows fill it up.
        """
        for step, planned in enumerate(self.plan.epoch(epoch)):
            yield *self.arrays(planned, parts), np.array([epoch, step], np.int32)

    def arrays(self, planned: PlannedBatch, parts: int = 1) -> tuple[Arrays, Arrays, Arrays]:
        """One batch of the plan: inputs, targets (B, 1) and loss weights (B,); B is a multiple of `parts`."""
        indices, rows, bucket = planned
        rows = -(-rows // parts) * parts
        slots = None if self.plan.slots is None else self.plan.slots[bucket]
        inputs = pad(self.records, indices, self.widths[bucket], rows, slots)
        return inputs, *pad_targets(self.targets, indices, rows)

    def _trailing(self, key: str) -> tuple[int | None, ...]:
        """Lengths of the axes behind the first of one example's array; None for neighbour slots."""
        trailing = self.records.values[key].shape[1:]
        return trailing if self.plan.slots is None or key not in SLOTTED else (None, *trailing[1:])

    def dataset(self, *, first_epoch: int = 0, repeat: bool = False, fraction_jitter: float = 0.0, parts: int = 1) -> tf.data.Dataset:
        """The batches as a `tf.data.Dataset` of (inputs, targets, weights).

        Args:
            first_epoch: where to begin, so that a resumed run continues the shuffle of an uninterrupted one.
            repeat: go on with the next epoch for ever (training, with ``steps_per_epoch=plan.steps``) or stop after one.
            fraction_jitter: relative noise on ``fractions``, seeded by the plan's seed, the epoch and the step.
            parts: each batch comes as so many parts with equally many rows, one after the other: one for each replica.
        """
        import tensorflow as tf

        def generate() -> Iterator[Any]:
            epoch = first_epoch
            while True:
                yield from self.epoch(epoch, parts)
                epoch += 1
                if not repeat:
                    return

        rows = -(-self.plan.rows[0] // parts) * parts if len(set(self.plan.rows)) == 1 else None
        signature = (
            {key: tf.TensorSpec((rows, None, *self._trailing(key)), wide(value.dtype)) for key, value in self.records.values.items()},
            {name: tf.TensorSpec((rows, 1), tf.float32) for name in self.targets},
            {name: tf.TensorSpec((rows,), tf.float32) for name in self.targets},
            tf.TensorSpec((2,), tf.int32),
        )
        dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
        seed = self.plan.seed or 0

        def finish(inputs: Any, targets: Any, weights: Any, stamp: Any) -> Any:
            if fraction_jitter:
                inputs = inputs | {"fractions": jitter_fractions(inputs["fractions"], fraction_jitter, stamp + [0, seed % (2**20) * 997])}
            return inputs, targets, weights

        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        dataset = dataset.map(finish, num_parallel_calls=1, deterministic=True)
        if parts > 1:
            dataset = dataset.flat_map(lambda *batch: tf.data.Dataset.from_tensor_slices(_in_parts(batch, parts)))
        count = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY if repeat else self.plan.steps * parts)
        return dataset.apply(count).prefetch(4 * parts).with_options(options)


def _in_parts(batch: Any, parts: int) -> Any:
    """Nested arrays (B, ...) -> (parts, B / parts, ...)."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda values: tf.stack(tf.split(values, parts)), batch)


def jitter_fractions(fractions: Any, scale: float, seed: Any) -> Any:
    """Multiply every fraction (B, E) by 1 + scale N(0, 1), clip to [0, 1] and renormalise; padding stays 0.

    Args:
        fractions: float32 (B, E), 0 = padding.
        scale: relative standard deviation.
        seed: int32 (2,), the same seed gives the same noise.
    """
    import tensorflow as tf

    noise = tf.random.stateless_normal(tf.shape(fractions), seed)
    noisy = tf.clip_by_value(fractions * (1.0 + scale * noise), 0.0, 1.0)
    return noisy / tf.maximum(tf.reduce_sum(noisy, axis=1, keepdims=True), 1e-12)
