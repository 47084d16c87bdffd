"""CUDA kernels on the CPU: ``kernels.cu``, unchanged but for its launches, compiled by g++."""
