"""Operations of TensorFlow from which the signatures of exported models are built."""
