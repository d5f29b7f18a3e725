"""The architectures: functions that return a functional `keras.Model`, named as in `keras.applications`.

One file each; to add one, write its file and register it here.
"""

from tfmat.architecture import register
from tfmat.zoo import atom_list_lstm, crysformer, lgdcnn, megnet, paraisite
from tfmat.zoo.atom_list_lstm import AtomListLSTM as AtomListLSTM
from tfmat.zoo.crysformer import Crysformer as Crysformer
from tfmat.zoo.lgdcnn import LGDCNN as LGDCNN
from tfmat.zoo.megnet import MEGNet as MEGNet
from tfmat.zoo.paraisite import ParAIsite as ParAIsite

register(atom_list_lstm.ARCHITECTURE)
register(crysformer.ARCHITECTURE)
register(lgdcnn.ARCHITECTURE)
register(megnet.ARCHITECTURE)
register(paraisite.ARCHITECTURE)
