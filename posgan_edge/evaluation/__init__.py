"""The AFLW2000-3D protocol and its metrics."""
