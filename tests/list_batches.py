"""Batches of crystals as lists, joined by hand, and the quotient of a crystal by exact colour refinement."""

import collections

import numpy as np

OFFSETS = {"bond_receivers": "species", "bond_senders": "species", "pair_receivers": "distances", "pair_senders": "distances"}
"""Key of indices -> a key with one row for each of what they count."""


def every_copy(arrays):
    """An example in which each site and bond stands for itself alone, from sites and ``centers``, ``neighbors``, ``distances``."""
    example = {"species": arrays["species"], "site_multiplicity": np.ones_like(arrays["species"])}
    order = np.argsort(arrays["centers"], kind="stable")
    for key, old in (("bond_receivers", "centers"), ("bond_senders", "neighbors"), ("distances", "distances")):
        example[key] = np.asarray(arrays[old])[order]
    example["bond_multiplicity"] = np.ones_like(example["bond_receivers"])
    return example | ({"state": arrays["state"]} if "state" in arrays else {})


def quotient(example, digits=4):
    """The same crystal with its equal sites and bonds once, of mean length; lengths that agree to `digits` decimals are equal."""
    lengths = np.round(example["distances"], digits).tolist()
    colours, known = np.unique(example["species"], return_inverse=True)[1].tolist(), 0
    while len(set(colours)) > known:
        known = len(set(colours))
        bonds = [collections.defaultdict(list) for _ in colours]
        for bond, (i, j) in enumerate(zip(example["bond_receivers"], example["bond_senders"], strict=True)):
            bonds[i][colours[j], lengths[bond]].append(float(example["distances"][bond]))
        words = [(colour, *sorted((kind, len(same)) for kind, same in at.items())) for colour, at in zip(colours, bonds, strict=True)]
        names = {word: number for number, word in enumerate(sorted(set(words)))}
        colours = [names[word] for word in words]
    first = [colours.index(colour) for colour in range(known)]
    found = {"species": example["species"][first], "site_multiplicity": np.bincount(colours).astype(np.int32)}
    rows = [
        (number, sender, np.mean(same), len(same)) for number, site in enumerate(first) for (sender, _), same in sorted(bonds[site].items())
    ]
    for key, column in zip(("bond_receivers", "bond_senders", "distances", "bond_multiplicity"), zip(*rows, strict=True), strict=True):
        found[key] = np.array(column, example[key].dtype)
    return found | ({"state": example["state"]} if "state" in example else {})


def joined(examples, empty=1, crystals=0):
    """A batch: the lists behind each other, `empty` empty rows behind each list, and so many crystals without sites."""
    batch = {}
    for key in examples[0]:
        parts = [example[key] for example in examples]
        if key in OFFSETS:
            sizes = np.cumsum([0, *(len(example[OFFSETS[key]]) for example in examples)])
            parts = [part + start for part, start in zip(parts, sizes, strict=False)]
            parts.append(np.full(empty, sizes[-1] + empty - 1))
        elif key == "state":
            parts = [np.stack(parts), np.zeros((crystals, len(parts[0])), parts[0].dtype)]
        else:
            parts.append(np.zeros((empty, *parts[0].shape[1:])))
        batch[key] = np.concatenate(parts).astype(examples[0][key].dtype)
    batch["batch_sites"] = np.array([len(example["species"]) for example in examples] + [0] * crystals, np.int32)
    return batch
