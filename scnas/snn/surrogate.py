"""The arctangent surrogate: the slope that the backward pass gives to a spike.

HEIGHT / (1 + (STEEP * x)^2), where x is the distance of the membrane to the threshold in units of the scale:
Fang et al. 2021, "Incorporating learnable membrane time constant".
"""

import math

import numpy as np

ALPHA = 2.0  # steepness, as in SpikingJelly's ATan
STEEP, HEIGHT = np.float32(math.pi / 2 * ALPHA), np.float32(ALPHA / 2)
