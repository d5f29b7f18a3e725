"""From a user's file to featurized examples: readers, splits and the cache of featurized records."""

from tfmat.data.cache import RecordCache as RecordCache
from tfmat.data.cache import featurize_table as featurize_table
from tfmat.data.readers import read_table as read_table
from tfmat.data.splits import split_by_hash as split_by_hash
from tfmat.data.splits import split_random as split_random
from tfmat.data.table import Table as Table
