"""What the tests of several exporters share."""

import numpy as np
import tensorflow as tf

from tfmat.target import Target

TARGETS = (
    Target("conductivity", "W/(m K)", transform="log10", mean=0.6, std=0.4),
    Target("formation_enthalpy", "eV/atom", mean=-1.4, std=1.1),
    Target("metal", task="binary"),
)
OUTPUTS = ("conductivity", "conductivity_uncertainty", "formation_enthalpy", "formation_enthalpy_uncertainty", "metal")

LEAN = {"dim": 32, "conv_dim": 32, "conv_blocks": 1, "kernel_size": 1, "recurrent": (), "attention": False}
"""An L-G-DCNN that is traced in a second, for tests that look at something else than its layers."""

# Two slots that are no composition: species, amounts, part of the sentence that says so.
BAD_ROWS = [
    ([-1, 8], [1, 1], "must be atomic numbers from 1 to 118"),
    ([119, 8], [1, 1], "must be atomic numbers from 1 to 118"),
    ([26, 8], [0, 1], "must be positive and finite"),
    ([26, 8], [-1, 2], "must be positive and finite"),
    ([26, 8], [np.nan, 2], "must be positive and finite"),
    ([26, 8], [np.inf, 2], "must be positive and finite"),
    ([26, 0], [1, 2], "an amount needs an element"),
    ([26, 0], [1, np.nan], "an amount needs an element"),
    ([0, 0], [0, 0], "at least one element"),
    ([26, 8], [3e38, 1e-30], "differ by more than float32 can hold"),
]


def wrong_once(method, factor):
    """A method `unscale` that is right while a graph is made, and wrong by a factor when Keras is asked."""

    def unscale(self, output):
        return method(self, output) * (factor if tf.executing_eagerly() else 1.0)

    return unscale
