"""Agreement between scores and human opinion: arrays in, numbers out."""
