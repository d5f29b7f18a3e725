"""What the builders of the zoo return: a functional model that knows how it was built, also after it was saved and loaded."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any, TypeVar

import keras

from tfmat import architecture as registry
from tfmat.featurizers.base import Featurizer

_NOT_KEYWORDS = ("targets", "weights", "name")
Builder = TypeVar("Builder", bound=Callable[..., keras.Model])


@keras.saving.register_keras_serializable("tfmat")
class ZooModel(keras.Model):
    """A functional `keras.Model` with the name of its architecture and the keywords of its builder.

    They are saved with it, so that `tfmat.datasets.dataset.Dataset.to_tf` and `tfmat.Predictor.from_model` know what the model reads, after
    ``keras.saving.load_model`` too. Where the outputs are a value and a log-scale, (B, 2), it cannot be compiled with a loss of Keras.
    """

    _built_by = "{}"  # JSON: Keras would take a dictionary for something to be tracked

    @property
    def architecture(self) -> str:
        """Name of the architecture, e.g. ``megnet``."""
        name: str = json.loads(self._built_by).get("architecture", "")
        return name

    @property
    def keywords(self) -> dict[str, Any]:
        """Keywords that the builder was given, without the targets."""
        keywords: dict[str, Any] = json.loads(self._built_by).get("keywords", {})
        return keywords

    @property
    def featurizer(self) -> Featurizer:
        """What turns materials into the model's inputs; the builder's keywords that it has too (``cutoff``) are its own."""
        return registry.get(self.architecture).default_featurizer(self.keywords)

    def get_config(self) -> dict[str, Any]:
        """The config of any functional model, with ``built_by``."""
        return super().get_config() | {"built_by": json.loads(self._built_by)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ZooModel:
        """See `get_config`."""
        rest = {key: value for key, value in config.items() if key != "built_by"}
        return super().from_config(rest, custom_objects)._remember(config["built_by"])

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *arguments: Any, **options: Any) -> None:
        """Compile like any `keras.Model`; next to a log-scale, with losses from `tfmat.training.losses` or your own.

        Raises:
            ValueError: one of Keras' losses would train the log-scale to be the target, as it does the value.
        """
        if any(output.shape[-1] == 2 for output in self.outputs):
            _check_losses(loss, self.name)
        super().compile(optimizer, loss, *arguments, **options)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a model that was saved; `keras.Model` does not where a subclass has its own `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _remember(self, built_by: dict[str, Any]) -> ZooModel:
        self._built_by = json.dumps(built_by)
        # "auto" then compiles without XLA under TensorFlow, where it would compile for seconds for every size of a batch.
        self.supports_jit = keras.backend.backend() != "tensorflow"
        return self


def _check_losses(loss: Any, name: str) -> None:
    """Refuse losses of Keras, alone or in a structure of losses, for the model called `name` that gives a log-scale too."""
    for found in keras.tree.flatten(loss):
        found = keras.losses.get(found) if isinstance(found, str) else found
        function = getattr(found, "fn", found)  # Keras' loss objects hold a function
        if (getattr(function, "__module__", None) or type(function).__module__).startswith("keras."):
            kind = getattr(function, "__name__", type(function).__name__)
            problem = f"{name} gives a value and a log-scale, and {kind} would train both to be the target"
            raise ValueError(f"{problem}. Build it with uncertainty=False, or take a loss from tfmat.training.losses such as RobustL1()")


def zoo_model(architecture: str) -> Callable[[Builder], Builder]:
    """Decorates the builder of the architecture called `architecture`: what it returns becomes a `ZooModel`."""

    def decorate(build: Builder) -> Builder:
        @functools.wraps(build)
        def built(*arguments: Any, **keywords: Any) -> keras.Model:
            model = build(*arguments, **keywords)
            if isinstance(model, ZooModel):  # by the builder itself, from the keywords of saved weights
                return model
            given = inspect.signature(build).bind(*arguments, **keywords).arguments
            told = {name: value for name, value in given.items() if name not in _NOT_KEYWORDS}
            named = ZooModel(model.input, model.output, name=model.name)
            return named._remember({"architecture": architecture, "keywords": told})

        return built  # type: ignore[return-value]

    return decorate
