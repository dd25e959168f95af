"""Parts that belong to no one paper: backbones, attention, CLIP's text tower, diffusion."""
