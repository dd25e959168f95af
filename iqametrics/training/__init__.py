"""Training: recipe, feature cache, loop, exact resume."""
