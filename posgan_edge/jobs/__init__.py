"""Faces as Parquet tables, and models for a Triton server."""
