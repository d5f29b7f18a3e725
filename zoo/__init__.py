"""The architectures: functions that return a functional `keras.Model`, named as in `keras.applications`.

Each stands in one file, which registers it; to add one, write its file and import it here.
"""

from tfmat.zoo.atom_list_lstm import AtomListLSTM as AtomListLSTM
from tfmat.zoo.crysformer import Crysformer as Crysformer
from tfmat.zoo.lgdcnn import LGDCNN as LGDCNN
from tfmat.zoo.megnet import MEGNet as MEGNet
from tfmat.zoo.paraisite import ParAIsite as ParAIsite
