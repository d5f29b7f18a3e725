"""ParAIsite against its published network, and the three steps of its paper: what a pretrained backbone gives, keeps and learns."""

import importlib.util
import math

import keras
import megnet_reference as reference
import numpy as np
import pytest
from megnet_cases import CRYSTALS, SALTS, SMALL, batch_of, changed, randomise, table, values

from tfmat.batching.pipeline import Batches
from tfmat.errors import InputError
from tfmat.featurizers.bonds import BondFeaturizer
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.training.loop import compile_model
from tfmat.training.losses import loss_for
from tfmat.training.recipe import Recipe
from tfmat.zoo.paraisite import ARCHITECTURE, ParAIsite
from tfmat.zoo.presets import PRESETS

HEAD = SMALL | {"head_dims": (6, 5)}
ENERGY = Target("formation_energy", "eV/atom")
KAPPA = Target("kappa", "W/(m K)", transform="log10_1p")
VALUES = [2.1, 7.5, 11.0, 0.4, 150.0, 7.6]
BONDS = BondFeaturizer()


def outputs(model, crystals, name="target"):
    """One column for all crystals in one batch."""
    batch = batch_of(crystals)
    output = keras.ops.convert_to_numpy(model(batch)[name] if isinstance(model.output, dict) else model(batch))
    return output[: len(crystals)]


def part(weights, names):
    """Paths of the weights of layers whose names begin so."""
    return {path for path in weights if path.startswith(tuple(names))}


BACKBONE = ("atom_", "bond_", "state_", "block", "readout_")


def test_number_of_parameters():
    """The published 478,305 are: 100 fixed Gaussian centres more, 8,448 of a second bias and matrix in each LSTM, 6 elements fewer."""
    head = 17 * 450 + 451 * 350 + 351 * 350 + 351
    assert ParAIsite().count_params() == 478_305 - 100 - 8_448 + 6 * 16 == 469_853
    assert sum(math.prod(w.shape) for w in ParAIsite().weights if w.path.startswith(("head_", "target"))) == head == 288_701
    assert 2 * (128 * 64 + 128 * 32 + 2 * 128 - (64 * 128 + 128)) == 8_448


@pytest.mark.parametrize(("flavor", "steps"), [("matgl", 2), ("megnet", 3)])
def test_the_reference_numbers(flavor, steps):
    model = ParAIsite(flavor=flavor, set2set_steps=steps, **HEAD)
    weights = randomise(model)
    graphs = [(one.species, *reference.bonds(one.lattice, one.frac_coords, 4.0)) for one in CRYSTALS]
    options = {"cutoff": 4.0, "flavor": flavor, "set2set_steps": steps, "legacy": False}
    wanted = [reference.paraisite(weights, *graph, **options) for graph in graphs]
    np.testing.assert_allclose(outputs(model, CRYSTALS)[:, 0], wanted, rtol=0, atol=2e-5)
    assert np.ptp(wanted) > 0.01


@pytest.mark.parametrize(("sizes", "widths"), [((7, 0, 5), [7]), ((450, 350, 350, 0), [450, 350, 350]), ([3], [3]), ((4, 6), [4, 6])])
def test_a_zero_ends_the_head(sizes, widths):
    model = ParAIsite(("a", "b"), head_dims=sizes, **SMALL)
    layers = [layer for layer in model.layers if layer.name.startswith("head_")]
    assert [layer.units for layer in layers] == widths and {layer.activation for layer in layers} == {keras.activations.relu}
    kernels = {path: weight.shape for path, weight in values(model).items() if path.endswith("kernel")}
    assert kernels["head_1/kernel"][0] == 16 and kernels["a/kernel"] == kernels["b/kernel"] == (widths[-1], 1)
    assert model.get_layer("readout_2").activation is keras.activations.linear


@pytest.mark.parametrize("sizes", [(), (0,), (0, 450), (8, -1)])
def test_a_head_must_have_a_layer(sizes):
    with pytest.raises(ValueError, match="`head_dims` must hold at least one positive width"):
        ParAIsite(head_dims=sizes, **SMALL)


def test_uncertainty_and_state():
    model = ParAIsite(("a", "b"), uncertainty=True, fidelities=3, **HEAD)
    assert {name: output.shape for name, output in model.output.items()} == {"a": (None, 2), "b": (None, 2)}
    assert model.get_layer("state_embedding").weights[0].shape == (3, 16)


@pytest.fixture(scope="module")
def matgl_preset(mirror, tmp_path_factory):
    """The published formation energy of matgl: from the user's cache, or converted where PyTorch is installed."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("torch"):
            patch.setenv("TFMAT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        try:
            return PRESETS["matgl/MEGNet-MP-2018.6.1-Eform"]()
        except InputError as error:
            if "needs torch" not in error.problem:
                raise
            pytest.skip("the preset is not in the cache, and its conversion needs PyTorch")


@pytest.mark.mirror
def test_the_published_network(megnet_oracle, matgl_preset):
    """Backbone of matgl, head of seeded weights: the numbers of the published code, layer by layer."""
    from pymatgen.core import Structure

    oracle = megnet_oracle["matgl"]["ParAIsite_combined"]
    assert "default_rng(100+i).standard_normal((fan_in,fan_out))/sqrt(fan_in), then bias 0.1*standard_normal" in oracle["head_init"]
    predictor = Predictor.create("paraisite", [Target("target")], init=matgl_preset)
    assert predictor.info["init"]["unused"] == 2
    for index, (name, rows, columns) in enumerate((("head_1", 16, 450), ("head_2", 450, 350), ("head_3", 350, 350), ("target", 350, 1))):
        rng = np.random.default_rng(100 + index)
        kernel, bias = rng.standard_normal((rows, columns)) / math.sqrt(rows), 0.1 * rng.standard_normal(columns)
        predictor.model.get_layer(name).set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    layers = {name: keras.Model(predictor.model.input, predictor.model.get_layer(name).output) for name in ("crystal", "readout_2")}
    expected = {name: found for name, found in oracle["predictions"].items() if np.isfinite(found.get("parAIsite_z", np.nan))}
    materials = megnet_oracle["crystals"] | megnet_oracle["edge_cases"]
    assert set(megnet_oracle["crystals"]) <= set(expected) and sum("vec160" in found for found in expected.values()) == 3
    crystals = [Structure.from_dict(materials[name]) for name in expected]
    vectors, features = (outputs(layers[name], crystals) for name in ("crystal", "readout_2"))
    for row, (name, found) in enumerate(expected.items()):
        bound = 2e-5 if name in megnet_oracle["crystals"] else 2e-4
        np.testing.assert_allclose(features[row], found["proj16"], rtol=0, atol=bound, err_msg=name)
        if "vec160" in found:
            np.testing.assert_allclose(vectors[row], found["vec160"], rtol=0, atol=2e-5, err_msg=name)
    wanted = [found["parAIsite_z"] for found in expected.values()]
    bounds = np.where([name in megnet_oracle["crystals"] for name in expected], 2e-5, 2e-4)
    assert (np.abs(predictor.predict(crystals)["target"] - wanted) <= bounds).all()


@pytest.fixture(scope="module")
def megnet_model(tmp_path_factory):
    """A MEGNet of formation energies in which no weight is what an untrained one begins with; its folder."""
    predictor = Predictor.create("megnet", [ENERGY], keywords=SMALL | {"flavor": "matgl", "set2set_steps": 2}, seed=5)
    randomise(predictor.model, seed=5)
    return predictor.save(tmp_path_factory.mktemp("step_1") / "megnet")


@pytest.fixture(scope="module")
def aflow_model(megnet_model, tmp_path_factory):
    """A ParAIsite of step II that learnt something; its folder."""
    predictor = Predictor.create("paraisite", [KAPPA], keywords=HEAD, init=megnet_model, seed=6)
    predictor.fit(table("kappa", VALUES[::-1]), recipe=Recipe(loss="mape", learning_rate=0.01, batch_size=8), epochs=1)
    return predictor.save(tmp_path_factory.mktemp("step_2") / "paraisite")


def test_step_2_loads_the_whole_backbone_and_nothing_else(megnet_model):
    """In the published code it loads nothing at all: that must show in every single weight."""
    megnet = Predictor.load(megnet_model).model
    source = values(megnet)
    fresh = values(Predictor.create("paraisite", [KAPPA], keywords=HEAD, seed=3).model)
    predictor = Predictor.create("paraisite", [KAPPA], keywords=HEAD, init=megnet_model, seed=3)
    loaded = values(predictor.model)
    backbone = part(loaded, BACKBONE)
    output = {"formation_energy/kernel", "formation_energy/bias"}
    assert backbone == source.keys() - output and len(backbone) == 99
    for path in backbone:
        np.testing.assert_array_equal(loaded[path], source[path], err_msg=path)
        assert (loaded[path] != fresh[path]).all(), path
    head = ["head_1/kernel", "head_1/bias", "head_2/kernel", "head_2/bias"]
    assert changed(fresh, loaded) == backbone == loaded.keys() - {*head, "kappa/kernel", "kappa/bias"}
    info = predictor.info["init"]
    assert (info["loaded"], info["unused"], info["different_shape"]) == (99, 2, [])
    assert info["missing"] == head and info["replaced"] == ["kappa/kernel", "kappa/bias"]
    assert (info["architecture"], info["targets"]) == ("megnet", ["formation_energy"])
    ours, theirs = (keras.Model(model.input, model.get_layer("readout_2").output) for model in (predictor.model, megnet))
    np.testing.assert_array_equal(outputs(ours, CRYSTALS), outputs(theirs, CRYSTALS))


def test_step_2_needs_the_same_flavor(megnet_model):
    """What the other flavor can take is taken, and the rest is told."""
    predictor = Predictor.create("paraisite", [KAPPA], keywords=HEAD | {"flavor": "megnet"}, init=megnet_model)
    info = predictor.info["init"]
    assert {f"{kind}_set2set/projection_kernel" for kind in ("atom", "bond")} <= set(info["missing"])
    assert {f"{kind}_set2set/kernel" for kind in ("atom", "bond")} | {"readout_1/kernel"} <= set(info["different_shape"])


def test_step_3_begins_with_everything(aflow_model):
    source = Predictor.load(aflow_model)
    predictor = Predictor.create("paraisite", [KAPPA], keywords=HEAD, init=aflow_model, seed=9)
    assert not changed(values(source.model), values(predictor.model))
    info = predictor.info["init"]
    assert (info["loaded"], info["unused"]) == (105, 0) and not info["missing"] + info["replaced"] + info["different_shape"]
    assert (predictor.targets[0].mean, predictor.targets[0].std) == (source.targets[0].mean, source.targets[0].std) != (0.0, 1.0)


def test_a_frozen_backbone_stays_and_the_head_learns(aflow_model, tmp_path):
    predictor = Predictor.create("paraisite", [KAPPA], keywords=HEAD, init=aflow_model, freeze=["backbone"])
    before = values(predictor.model)
    backbone = part(before, BACKBONE)
    assert {f"{name}/" for name in predictor.info["frozen"]} == {path.split("/")[0] + "/" for path in backbone}
    data = table("kappa", VALUES)
    predictor.fit(data, data, recipe=Recipe(loss="mape", learning_rate=0.01, batch_size=8, keep="best"), epochs=2)
    after = values(predictor.model)
    assert changed(before, after) == before.keys() - backbone
    assert predictor.targets[0].mean == pytest.approx(np.log10(np.array(VALUES) + 1).mean()), "the scale is that of the new data"
    assert not changed(after, values(Predictor.load(predictor.save(tmp_path / "model")).model))


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "moved"), [(0.0, False), (0.1, True)])
def test_a_learning_rate_of_the_backbone(aflow_model, factor, moved):
    predictor = Predictor.create("paraisite", [KAPPA], keywords=HEAD, init=aflow_model)
    before = values(predictor.model)
    recipe = Recipe(loss="mape", optimizer="adam", schedule="constant", rates=(("backbone", factor),), batch_size=8, clip_norm=10.0)
    predictor.fit(table("kappa", VALUES), recipe=recipe, epochs=2)
    after = values(predictor.model)
    head = before.keys() - part(before, BACKBONE)
    assert head <= changed(before, after) and bool(changed(before, after) - head) == moved
    if moved:  # Adam's first steps are as long as its rate
        steps = [max(np.abs(after[path] - before[path]).max() for path in paths) for paths in (head, before.keys() - head)]
        assert steps[1] == pytest.approx(0.1 * steps[0], rel=0.2)


def test_parts():
    model = ParAIsite(("kappa",), **HEAD, fidelities=2)
    names = {layer.name for layer in model.layers if layer.weights}
    from tfmat.training.parts import matching_layers

    found = {name: matching_layers(model, name, ARCHITECTURE.parts) for name in ARCHITECTURE.parts}
    assert found["backbone"] == found["encoders"] | found["embedding"] | found["blocks"] | found["readout"]
    assert found["backbone"] | found["head"] | {"kappa"} == names and not found["backbone"] & found["head"]


def test_the_loss_of_the_paper_is_in_physical_units():
    """The mean over a batch of |predicted - measured| / measured in W/(m K), behind log10(x + 1) and its scale."""
    predictor = Predictor.create("paraisite", [KAPPA], keywords=HEAD)
    randomise(predictor.model)
    recipe = predictor.recipe("paper")
    assert (recipe.loss, recipe.optimizer, recipe.batch_size, recipe.keep, recipe.epochs) == ("mape", "adam", 8, "best", 300)
    kappa = np.array(VALUES)
    logs = np.log10(kappa + 1)
    target = KAPPA.fit(kappa)
    assert (target.mean, target.std) == pytest.approx((logs.mean(), logs.std(ddof=1)))
    raw = outputs(predictor.model, SALTS, "kappa")[:, 0].astype(np.float64)
    predicted = 10 ** (raw * logs.std(ddof=1) + logs.mean()) - 1
    wanted = np.mean(np.abs(predicted - kappa) / kappa)
    loss = loss_for(recipe.loss, target)
    assert float(loss(target.scale(kappa)[:, None], raw[:, None].astype(np.float32))) == pytest.approx(wanted, rel=1e-4)
    data, scaled = BONDS.featurize(SALTS), {"kappa": target.scale(kappa)}
    batches = Batches.of(data, scaled, 8)
    compile_model(predictor.model, [target], recipe.build_optimizer(1, 1), loss=recipe.loss)
    figures = predictor.model.evaluate(batches.dataset(), verbose=0, return_dict=True)
    assert figures["loss"] == pytest.approx(wanted, rel=1e-4)


def test_the_rate_of_the_paper():
    """A cosine of 500 epochs from 1e-3 to 1e-5, without warm-up: 3.5e-4 after 300."""
    optimizer = ARCHITECTURE.recipes["paper"].build_optimizer(10, 300)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 3000, 5000, 9000)]
    assert rates == pytest.approx([1e-3, 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(0.6 * math.pi)), 1e-5, 1e-5], rel=1e-3)
    assert rates[1] == pytest.approx(3.5e-4, rel=0.02)
