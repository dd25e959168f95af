"""Checkpoints: manifest, safetensors files, verification."""
