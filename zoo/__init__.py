"""The architectures: functions that return a functional `keras.Model`, named as in `keras.applications`.

One file each; to add one, write its file and register it here.
"""

from tfmat.architecture import register
from tfmat.zoo import lgdcnn, megnet, paraisite
from tfmat.zoo.lgdcnn import LGDCNN as LGDCNN
from tfmat.zoo.megnet import MEGNet as MEGNet
from tfmat.zoo.paraisite import ParAIsite as ParAIsite

register(lgdcnn.ARCHITECTURE)
register(megnet.ARCHITECTURE)
register(paraisite.ARCHITECTURE)
