"""Which layer of a Keras MEGNet plays which part, found by following the connections in the file's ``model_config``.

Names differ between versions of megnet (``dense_1`` or ``preblock_atom_0``) and with the number of models that were built in a process
(``dense_22``), the connections do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfmat.errors import InputError

STREAMS = ("atom", "bond", "state")


@dataclass(frozen=True)
class Layer:
    """One layer of the file.

    Attributes:
        name: in the file.
        kind: its Keras class.
        config: its settings.
        inputs: (layer, number of its output) that it takes.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Roles:
    """The layers of a MEGNet.

    Attributes:
        layers: name in the zoo's model (``atom_encoder_1``, ``block2/bond_ff_1``, ``atom_set2set``, ``readout_1``, ``output``) -> layer;
            ``block1`` is the layer that holds the three networks phi of a block.
        blocks: how many there are.
        dropout: rate; 0 without.
    """

    layers: Mapping[str, Layer]
    blocks: int
    dropout: float


def find_roles(text: str) -> Roles:
    """Roles in the JSON text of ``model_config``.

    Raises:
        InputError: it is not the graph of a MEGNet that the zoo can express.
    """
    try:
        config = json.loads(text)["config"]
        layers = {}
        for entry in config["layers"]:
            nodes = entry["inbound_nodes"] or [[]]
            inputs = tuple((str(name), int(number)) for name, _, number, *_ in nodes[0])
            layers[entry["name"]] = Layer(entry["name"], entry["class_name"], entry["config"], inputs)
        (output,) = config["output_layers"]
        graph = _Graph(layers, output[0])
        return graph.roles()
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("its model_config is not the graph of a MEGNet", expected="a file written by megnet's model.save") from None


class _Graph:
    def __init__(self, layers: Mapping[str, Layer], output: str) -> None:
        self._layers, self._output = layers, output
        self._found: dict[str, Layer] = {}
        self._rates: set[float] = set()

    def roles(self) -> Roles:
        """Follow the graph from its output to its inputs."""
        readout, start = self._dense_chain(self._output)
        if len(readout) != 3:
            raise InputError(f"its read-out has {len(readout)} dense layers", expected="3: the zoo's MEGNet has no other number")
        for number, layer in enumerate(readout[:-1], start=1):
            self._found[f"readout_{number}"] = layer
        self._found["output"] = readout[-1]
        joined = self._expect(start, "Concatenate", inputs=3)
        ends = [name for name, _ in joined.inputs]
        for stream, index in (("atom", 0), ("bond", 1)):
            pooling = self._expect(ends[index], "Set2Set", inputs=2)
            self._found[f"{stream}_set2set"] = pooling
            ends[index] = pooling.inputs[0][0]
        blocks: list[tuple[Layer, list[list[Layer]]]] = []
        while len(blocks) <= len(self._layers):
            block, sources, chains = self._block(ends)
            blocks.append((block, chains))
            ends = sources
            if not any(chains):
                break
        blocks.reverse()
        for number, (block, chains) in enumerate(blocks, start=1):
            self._found[f"block{number}"] = block
            for stream, chain in zip(STREAMS, chains, strict=True):
                self._two(chain, f"block{number}/{stream}_ff") if number > 1 else None
        for stream, end in zip(STREAMS, ends, strict=True):
            chain, source = self._dense_chain(end)
            self._two(chain, f"{stream}_encoder")
            self._source(stream, source)
        return Roles(self._found, len(blocks), max(self._rates, default=0.0))

    def _block(self, ends: list[str]) -> tuple[Layer, list[str], list[list[Layer]]]:
        """The block whose residual sums are `ends`, where its residuals come from, and the dense layers of each stream before it."""
        blocks, sources = [], []
        for index, end in enumerate(ends):
            total = self._expect(end, "Add", inputs=2)
            branches = [self._without_dropout(name, number) for name, number in total.inputs]
            inner = [(name, number) for name, number in branches if self._layers[name].kind == "MEGNetLayer"]
            if len(inner) != 1 or inner[0][1] != index:
                raise InputError(f"layer {end!r} does not add output {index} of a MEGNetLayer to its input")
            blocks.append(inner[0][0])
            sources.append(next(name for name, _ in branches if name != inner[0][0]))
        if len(set(blocks)) != 1:
            raise InputError(f"layers {', '.join(map(repr, ends))} belong to different blocks")
        block = self._expect(blocks[0], "MEGNetLayer", inputs=7)
        chains = [self._dense_chain(name, until=source)[0] for (name, _), source in zip(block.inputs, sources, strict=False)]
        return block, sources, chains

    def _dense_chain(self, end: str, until: str = "") -> tuple[list[Layer], str]:
        """The dense layers that end at `end`, in order of computation, and the name of what they start from."""
        chain: list[Layer] = []
        name, _ = self._without_dropout(end)
        while name != until and self._layers[name].kind == "Dense":
            if len(chain) > len(self._layers):
                raise InputError("its layers form a circle")
            chain.append(self._expect(name, "Dense", inputs=1))
            name, _ = self._without_dropout(chain[-1].inputs[0][0])
        if until and name != until:
            raise InputError(f"layer {name!r} feeds a block, but not its residual", expected=f"{until!r}")
        return chain[::-1], name

    def _two(self, chain: list[Layer], name: str) -> None:
        if len(chain) != 2:
            raise InputError(f"{name} has {len(chain)} dense layers", expected="2: the zoo's MEGNet has no other number")
        for number, layer in enumerate(chain, start=1):
            self._found[f"{name}_{number}"] = layer

    def _source(self, stream: str, name: str) -> None:
        """Embeddings of atoms and of fidelities are layers of their own."""
        layer = self._layers[name]
        if layer.kind == "Embedding" and stream != "bond":
            self._found[f"{stream}_embedding"] = layer
        elif layer.kind != "InputLayer":
            raise InputError(f"the {stream} features come from layer {name!r}, a {layer.kind}", expected="an input or an embedding")
        elif stream == "atom":
            raise InputError("its atom input are features, not atomic numbers", expected="an embedding of Z, as the zoo's MEGNet has")

    def _without_dropout(self, name: str, number: int = 0) -> tuple[str, int]:
        """The layer, and the number of its output, that reaches `name` through dropout alone."""
        for _ in range(len(self._layers) + 1):
            layer = self._layers[name]
            if layer.kind != "Dropout":
                return name, number
            self._rates.add(float(layer.config["rate"]))
            name, number = layer.inputs[0]
        raise InputError("its layers form a circle")

    def _expect(self, name: str, kind: str, *, inputs: int) -> Layer:
        layer = self._layers[name]
        if layer.kind != kind or len(layer.inputs) != inputs:
            raise InputError(
                f"layer {name!r} is a {layer.kind} of {len(layer.inputs)} inputs", expected=f"a {kind} of {inputs}, as in a MEGNet"
            )
        return layer
