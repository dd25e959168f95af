"""Datasets, splits and synthetic distortions."""
