"""What leads from a user's file to featurized examples: readers, tables, splits, and the cache of featurized records."""

from tfmat.data.cache import CacheEntry as CacheEntry
from tfmat.data.cache import RecordCache as RecordCache
from tfmat.data.featurize import featurize_table as featurize_table
from tfmat.data.featurize import usable_table as usable_table
from tfmat.data.read.bounded import LIMITS as LIMITS
from tfmat.data.read.bounded import Limits as Limits
from tfmat.data.read.cells import read_table as read_table
from tfmat.data.read.user_data import UserData as UserData
from tfmat.data.read.user_data import check_material as check_material
from tfmat.data.read.user_data import read_user_data as read_user_data
from tfmat.data.rejections import Rejection as Rejection
from tfmat.data.rejections import write_rejections as write_rejections
from tfmat.data.splits import SplitSpec as SplitSpec
from tfmat.data.splits import read_split_file as read_split_file
from tfmat.data.splits import split_by_hash as split_by_hash
from tfmat.data.splits import split_random as split_random
from tfmat.data.splits import write_split_file as write_split_file
from tfmat.data.table import Table as Table
