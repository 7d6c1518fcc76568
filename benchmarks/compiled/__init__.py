"""What XLA makes of the programs, also for absent devices: kernels, copies, bytes, collectives."""
