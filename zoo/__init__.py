"""The architectures: functions that return a functional `keras.Model`, named as in `keras.applications`.

One file each; to add one, write its file and register it here.
"""

from tfmat.architecture import register
from tfmat.zoo import lgdcnn
from tfmat.zoo.lgdcnn import LGDCNN as LGDCNN

register(lgdcnn.ARCHITECTURE)
