"""From a pymatgen object (or its string) to numpy arrays: one file each representation."""

from tfmat.featurizers.atom_list import AtomListFeaturizer as AtomListFeaturizer
from tfmat.featurizers.base import Featurizer as Featurizer
from tfmat.featurizers.base import configuration as configuration
from tfmat.featurizers.bonds import BondFeaturizer as BondFeaturizer
from tfmat.featurizers.composition import CompositionFeaturizer as CompositionFeaturizer
from tfmat.featurizers.neighbors import NeighborFeaturizer as NeighborFeaturizer
