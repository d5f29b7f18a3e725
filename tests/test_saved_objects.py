"""`keras.saving.load_model` opens a model of the zoo after `import tfmat` alone, in another process."""

import pathlib
import subprocess
import sys

import keras
import pytest

from tfmat import zoo
from tfmat.on_import import saved_objects
from tfmat.target import Target
from tfmat.zoo import LGDCNN

ROOT = pathlib.Path(__file__).parents[1]
LOAD = """
import sys
{imports}
model = keras.saving.load_model(sys.argv[1])
print(model.count_params(), type(model.optimizer).__module__, type(model.loss["gap"]).__module__)
model.save(sys.argv[1])
"""


@pytest.mark.parametrize("imports", ["import tfmat, keras", pytest.param("import keras, tfmat", marks=pytest.mark.slow)])
def test_a_model_is_loaded_in_another_process(tmp_path, imports):
    from tfmat.training.losses import RobustL1
    from tfmat.training.metrics import PhysicalMAE
    from tfmat.training.optimizers import AdamW

    model = LGDCNN(("gap",), dim=8, conv_dim=8)
    model.compile(AdamW(), loss={"gap": RobustL1()}, metrics={"gap": [PhysicalMAE(Target("gap", "eV", std=2.0))]})
    model.save(tmp_path / "m.keras")
    command = [sys.executable, "-c", LOAD.format(imports=imports), str(tmp_path / "m.keras")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(model.count_params()), "tfmat.training.optimizers", "tfmat.training.losses"]


def test_every_saved_object_is_listed():
    import tfmat.layers
    import tfmat.training.losses
    import tfmat.training.optimizers

    assert zoo and tfmat.layers and tfmat.training.losses and tfmat.training.optimizers
    known = keras.saving.get_custom_objects()
    made = {name for name, value in known.items() if name.startswith("tfmat>") and getattr(value, "__module__", "").startswith("tfmat.")}
    listed = {f"tfmat>{name}": module for name, module in saved_objects().items()}
    assert made <= set(listed)
    for name, module in listed.items():
        assert hasattr(sys.modules[module], name.removeprefix("tfmat>"))
