"""The search spaces: every architecture has one, and it holds nothing that the builder and the recipe do not have."""

import dataclasses
import inspect

import pytest

from tfmat.architecture import architectures, get
from tfmat.errors import InputError
from tfmat.training.recipe import Recipe
from tfmat.tuning import SPACES
from tfmat.tuning.configuration import Reader, rounded, trial_values
from tfmat.tuning.spaces import AUTOMATIC, space_of

keras_tuner = pytest.importorskip("keras_tuner")

NAMES = sorted(architectures())
NOT_SCALAR = {"recurrent": lambda value: "-".join(value), "head_dims": lambda value: "-".join(map(str, value))}
"""Keywords that are sequences are searched as text."""


def reader(name, space=None, **options):
    architecture = get(name)
    return Reader(architecture, space or space_of(name), options.pop("keywords", {}), architecture.recipes["default"], **options)


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_has_a_space_of_its_own_keywords(name):
    hp = keras_tuner.HyperParameters()
    values = SPACES[name](hp)
    assert set(values) == {"keywords", "recipe"} and values["keywords"] and values["recipe"]
    builder = set(inspect.signature(get(name).builder).parameters) - {"targets", "weights", "name"}
    fields = {field.name for field in dataclasses.fields(Recipe)} - {"epochs"}
    assert set(values["keywords"]) <= builder
    assert set(values["recipe"]) <= fields
    assert {parameter.name for parameter in hp.space} == set(values["keywords"]) | set(values["recipe"])
    assert not set(values["keywords"]) & set(values["recipe"])
    assert "learning_rate" in values["recipe"] and "batch_size" in values["recipe"]


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_those_of_builder_and_recipe_and_inside_the_space(name):
    hp = keras_tuner.HyperParameters()
    values = SPACES[name](hp)
    defaults = get(name).default_keywords() | get(name).variant() | get(name).recipes["default"].to_config()
    for key, value in {**values["keywords"], **values["recipe"]}.items():
        assert value == defaults[key], key
    for parameter in hp.space:
        expected = defaults[parameter.name]
        expected = AUTOMATIC if expected is None else NOT_SCALAR.get(parameter.name, lambda value: value)(expected)
        assert parameter.default == expected
        if hasattr(parameter, "min_value"):
            assert parameter.min_value <= expected <= parameter.max_value
            assert parameter.min_value < parameter.max_value
        else:
            assert expected in parameter.values and len(set(parameter.values)) > 1


@pytest.mark.parametrize("name", NAMES)
def test_any_values_make_a_recipe_and_a_featurizer(name):
    hp = keras_tuner.HyperParameters()
    SPACES[name](hp)
    for seed in range(30):
        trial = hp.copy()
        trial.values = {parameter.name: parameter.random_sample(100 * seed + index) for index, parameter in enumerate(hp.space)}
        configuration = reader(name).read(trial)
        featurizer = get(name).default_featurizer(configuration.keywords)
        for key in set(configuration.keywords) & {field.name for field in dataclasses.fields(featurizer)}:
            assert getattr(featurizer, key) == configuration.keywords[key] == trial.values[key]
        assert configuration.recipe.learning_rate == trial.values["learning_rate"]
        assert configuration.recipe.batch_size == (trial.values["batch_size"] or None)


def test_featurizers_of_a_space():
    hp = keras_tuner.HyperParameters()
    reader("crysformer").read(hp)
    assert [featurizer.k for featurizer in reader("crysformer").featurizers(hp)] == [12, 8, 16]
    hp = keras_tuner.HyperParameters()
    fixed = reader("crysformer", keywords={"k": 10})
    fixed.read(hp)
    assert [featurizer.k for featurizer in fixed.featurizers(hp)] == [10]

    def radius(hp):
        return {"keywords": {"cutoff": hp.Float("cutoff", 3.0, 8.0, default=5.0), "dim": hp.Choice("dim", [8, 16])}, "recipe": {}}

    hp = keras_tuner.HyperParameters()
    reader("megnet", radius).read(hp)
    assert [featurizer.cutoff for featurizer in reader("megnet", radius).featurizers(hp)] == [5.0, 3.0, 8.0]


def test_what_is_set_is_not_searched():
    base = dataclasses.replace(get("lgdcnn").recipes["default"], batch_size=48)
    some = Reader(
        get("lgdcnn"), space_of("lgdcnn"), {"dim": 64, "recurrent": ("gru",)}, base, ("batch_size",), ("learning_rate", "conv_dim")
    )
    hp = keras_tuner.HyperParameters()
    configuration = some.read(hp)
    assert [parameter.name for parameter in hp.space] == ["conv_dim", "learning_rate"]
    assert configuration.keywords["dim"] == 64 and configuration.keywords["recurrent"] == ("gru",)
    assert configuration.keywords["conv_blocks"] == 3 and configuration.recipe.batch_size == 48
    hp.values = {"learning_rate": 0.00123456789, "conv_dim": 128}
    assert some.read(hp).keywords["conv_dim"] == 128
    assert trial_values(hp) == {"conv_dim": 128, "learning_rate": 0.00123457}
    assert rounded(7) == 7 and rounded("7") == "7"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"keywords": {"width": 8}, "recipe": {}}, "the search space sets 'width', which lgdcnn does not have. Expected one of dim"),
        ({"keywords": {}, "recipe": {"lr": 8}}, "the search space sets 'lr' of the recipe, which it does not have. Expected one of loss"),
        ({"keywords": {}, "recipe": {"epochs": 8}}, "the search space sets 'epochs' of the recipe"),
        ({"keywords": {}, "recipes": {}}, "the search space returns 'recipes'. Expected keywords and recipe"),
        ({"keywords": {}, "recipe": {"swa_epochs": 2}}, "`ema` and `swa_epochs` both average the weights"),
    ],
)
def test_a_space_with_an_unknown_key(values, problem):
    with pytest.raises(InputError) as caught:
        reader("lgdcnn", lambda hp: values).read(keras_tuner.HyperParameters())
    assert problem in str(caught.value)


def test_names_that_cannot_be_varied():
    with pytest.raises(InputError, match=r"'dims' is not in the search space of lgdcnn. Expected one of dim, recurrent"):
        reader("lgdcnn", vary=("dims",)).read(keras_tuner.HyperParameters())
    with pytest.raises(InputError, match="'dim' cannot be both set and varied"):
        reader("lgdcnn", vary=("dim",), keywords={"dim": 64}).read(keras_tuner.HyperParameters())
    with pytest.raises(InputError, match="tiny has no search space"):
        space_of("tiny")
