"""``python -m posgan_edge_kernels``: prints what was built."""

from posgan_edge_kernels import __version__, built

print(f"posgan_edge_kernels {__version__}: {built}")
