"""The arrays that learning and profiles compute with, by the type of their numbers."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# What is fitted and served: the prediction service computes in float32.
Floats32 = NDArray[np.float32]
