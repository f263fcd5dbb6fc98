"""DAC, output stage and ADC: laws, their states for a row of tiles, kernels that other kernels call, and ranges."""

from crossbar_sim.kernels import compiling as compiling  # says how long kernels are kept, ahead of all that are
