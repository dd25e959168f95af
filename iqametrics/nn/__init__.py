"""Parts that know no paper: backbones, attention, CLIP text tower, diffusion."""
