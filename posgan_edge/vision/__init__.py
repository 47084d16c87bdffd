"""Frames in, faces out: sources, detection, the pipeline, drawing and sinks."""
