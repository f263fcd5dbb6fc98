"""DAC, output stage and ADC: laws, their states for a row of tiles, kernels that other kernels call, and ranges."""
