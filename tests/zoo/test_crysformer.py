"""Crysformer against its equations in NumPy, its published size, and what is particular to it."""

import keras
import numpy as np
import pytest

from tests.crysformer_reference import crysformer
from tfmat.batching.arrays import batch_arrays
from tfmat.crystal import Crystal
from tfmat.featurizers.nearest import nearest_neighbors
from tfmat.featurizers.neighbors import NeighborFeaturizer
from tfmat.predictor import Predictor
from tfmat.target import Target
from tfmat.zoo import Crysformer

ROCK_SALT = Crystal(np.array([11, 17], np.int32), 2.82 * (np.ones((3, 3)) - np.eye(3)), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))
SMALL = {"dim": 16, "blocks": 2, "distance_gaussians": 12, "angle_gaussians": 8}


def random_crystal(seed, sites=4):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3)[rng.permutation(8)[:sites]]
    return Crystal(rng.integers(1, 96, sites).astype(np.int32), np.diag(rng.uniform(3.5, 4.5, 3)), grid + rng.normal(0, 0.03, grid.shape))


def randomised(model, seed=0, scale=0.3):
    """Weights without the zeros and ones of a fresh model, which would hide errors."""
    rng = np.random.default_rng(seed)
    model.set_weights([w + rng.normal(0, scale / np.sqrt(max(*w.shape[:1], 4, 4)), w.shape) for w in model.get_weights()])
    return model


def outputs(model, crystals, featurizer=None):
    return np.asarray(model(batch_of(crystals, featurizer))["target"])[:, 0]


def batch_of(crystals, featurizer=None):
    records = (featurizer or NeighborFeaturizer()).featurize(crystals)
    return batch_arrays(records, np.arange(len(crystals)), len(crystals))


@pytest.mark.parametrize(
    ("keywords", "parameters"),
    [
        ({"head": "linear", "update_last_edges": True}, 2_414_337),
        ({"update_last_edges": True}, 2_430_849),
        ({"head": "linear"}, 2_414_337 - 165_888),
        ({"head": "linear", "update_last_edges": True, "dim": 64, "blocks": 2}, 315_777),
        ({"elements": "onehot"}, 2_414_337 - 165_888 + 16_512 + (118 - 95) * 128 + 128 + 1 + 119 * 118),  # a map and a table of 118
    ],
)
def test_published_sizes(keywords, parameters):
    assert Crysformer(**({"elements": "learned"} | keywords)).count_params() == parameters


VARIANTS = [
    {},
    {"elements": "learned", "head": "linear", "update_last_edges": True},
    {"gate": "relu"},
    {"gate": "sigmoid", "heads": 2},
    {"embed_norm_act": False},
    {"cross_attention": False},
    {"conditional_attention": False},
    {"ff_ratio": 3, "blocks": 1},
]


def in_numpy(model, crystal, keywords, **change):
    found = nearest_neighbors([crystal], 12, 0.01)
    slots = [np.flatnonzero(found.centers == site) for site in range(len(crystal))]
    arrays = {"species": crystal.species, "neighbors": [found.neighbors[s] for s in slots], "vectors": [found.vectors[s] for s in slots]}
    options = SMALL | keywords
    options = {key: options[key] for key in ("blocks", "heads", "distance_gaussians", "angle_gaussians", "gate") if key in options}
    ablations = {key: keywords.get(f"{key}_attention", True) for key in ("cross", "conditional")}
    return crysformer(model, arrays, **options, **ablations, **change)["target"][0]


@pytest.mark.parametrize("keywords", VARIANTS, ids=lambda k: "-".join(f"{a}={b}" for a, b in k.items()) or "default")
def test_the_quotient_graph_gives_the_numbers_of_the_equations(keywords):
    model = randomised(Crysformer(**(SMALL | keywords)))
    crystals = [ROCK_SALT, random_crystal(1), random_crystal(2, sites=1)]
    found = outputs(model, crystals)
    expected = [in_numpy(model, crystal, keywords) for crystal in crystals]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert np.ptp(expected) > 1e-3


def test_the_reference_would_show_a_missing_angle():
    model = randomised(Crysformer(**SMALL))
    crystal = random_crystal(3)
    found = outputs(model, [crystal])[0]
    assert abs(found - in_numpy(model, crystal, {})) < 2e-5
    assert abs(found - in_numpy(model, crystal, {}, backtracking=False)) > 1e-3


def test_every_copy_gives_the_numbers_of_its_class():
    model = randomised(Crysformer(**SMALL))
    crystals = [ROCK_SALT, random_crystal(4)]
    np.testing.assert_allclose(outputs(model, crystals), outputs(model, crystals, NeighborFeaturizer(same=0)), rtol=0, atol=1e-5)
    assert len(batch_of([ROCK_SALT])["cosines"]) < 0.2 * len(batch_of([ROCK_SALT], NeighborFeaturizer(same=0))["cosines"])


def test_without_neighbors_the_output_is_finite():
    model = randomised(Crysformer(**SMALL))
    batch = batch_of([ROCK_SALT])
    sites = len(batch["species"])
    alone = {key: value if key in ("species", "site_multiplicity", "batch_sites") else value[-1:] for key, value in batch.items()}
    alone |= {"bond_receivers": np.array([sites - 1]), "bond_senders": np.array([sites - 1])}
    alone |= {"pair_receivers": np.array([0]), "pair_senders": np.array([0])}
    output = np.asarray(model(alone)["target"])
    assert np.isfinite(output).all()
    assert np.abs(output).max() > 0
    nothing = alone | {"site_multiplicity": 0 * alone["site_multiplicity"], "batch_sites": np.array([0], np.int32)}
    assert np.isfinite(np.asarray(model(nothing)["target"])).all()


def test_messages_cross_atoms_only_with_conditional_attention():
    """Without it nothing of a neighbour's element reaches a site, so two elements contribute independently."""
    cscl, swapped, mixed = (np.array(z, np.int32) for z in ([55, 17, 55, 17], [17, 55, 17, 55], [55, 55, 17, 17]))
    lattice, coords = np.diag([4.1, 4.1, 8.2]), np.array([[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]])
    crystals = [Crystal(z, lattice, coords) for z in (cscl, swapped, mixed)]
    alone = outputs(randomised(Crysformer(**SMALL, conditional_attention=False), scale=1.0), crystals)
    together = outputs(randomised(Crysformer(**SMALL), scale=1.0), crystals)
    assert np.ptp(alone) < 1e-5
    assert abs(together[0] - together[2]) > 1e-4


@pytest.mark.parametrize("keywords", [{"dropout": 0.3}, {"stochastic_depth": 0.5}])
def test_regularisation_acts_in_training_only(keywords):
    keras.utils.set_random_seed(0)
    model = Crysformer(**(SMALL | keywords))
    batch = batch_of([ROCK_SALT])
    still = [np.asarray(model(batch, training=False)["target"]).item() for _ in range(2)]
    moving = [np.asarray(model(batch, training=True)["target"]).item() for _ in range(4)]
    assert still[0] == still[1]
    assert len(set(moving)) > 1


def test_stochastic_depth_keeps_the_expected_update():
    from tfmat.zoo.crysformer import CrysformerLayer

    layer = CrysformerLayer(2, stochastic_depth=0.25)
    crystals = np.arange(4000, dtype=np.int32) // 2
    factors = np.asarray(layer._survival(crystals, True))
    assert set(np.unique(factors)) == {np.float32(0), np.float32(1 / 0.75)}
    np.testing.assert_allclose(factors.mean(0), 1, atol=0.05)
    np.testing.assert_array_equal(factors[::2], factors[1::2])
    assert layer._survival(crystals, False) is None


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_rematerialisation_gives_the_same_gradient(graph):
    tf = pytest.importorskip("tensorflow")
    batch = batch_of([ROCK_SALT, random_crystal(5)])
    weights, results = None, []
    for remat in (False, True):
        keras.utils.set_random_seed(0)
        model = Crysformer(**SMALL, stochastic_depth=0.4, remat=remat)
        weights = weights or randomised(model).get_weights()
        model.set_weights(weights)

        def gradients(inputs, model=model):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(inputs, training=True)["target"] ** 2)
            return [tf.convert_to_tensor(g) for g in tape.gradient(loss, [w.value for w in model.trainable_weights])]

        run = tf.function(gradients, autograph=False) if graph else gradients
        results.append(run({key: tf.constant(value) for key, value in batch.items()}))
    assert sum(np.abs(one).max() > 0 for one in results[0]) > 0.8 * len(results[0])  # crystals skip updates
    for weight, one, other in zip(model.trainable_weights, *results, strict=True):
        if not weight.path.endswith("cross/key/bias"):  # its gradient is zero but for rounding
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(one).max(), err_msg=weight.path)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(precision):
    keras.utils.set_random_seed(0)
    exact = randomised(Crysformer(**SMALL))
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(precision)
        half = Crysformer(**SMALL)
    finally:
        keras.config.set_dtype_policy(before)
    half.set_weights(exact.get_weights())
    crystals = [ROCK_SALT, random_crystal(6), random_crystal(7)]
    one, other = outputs(exact, crystals), outputs(half, crystals)
    assert half.output["target"].dtype == "float32"
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, rtol=0, atol=(0.06 if precision.endswith("bfloat16") else 0.01) * max(1, np.abs(one).max()))


def test_featurizer_and_model_share_their_keywords():
    predictor = Predictor.create("crysformer", [Target("a")], keywords=SMALL | {"k": 8, "max_neighbors": 16})
    assert predictor.featurizer == NeighborFeaturizer(k=8, max_neighbors=16)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"blocks": 0}, "`blocks` must be at least 1"),
        ({"head": "cubic"}, "`head` must be 'mlp' or 'linear'"),
        ({"gate": "step"}, "`gate` must be one of"),
        ({"dim": 10, "heads": 4}, "multiple of `heads`"),
        ({"dropout": 0.1, "remat": True}, "`dropout` must be 0"),
    ],
)
def test_bad_keywords(keywords, message):
    with pytest.raises(ValueError, match=message):
        Crysformer(**(SMALL | keywords))
