"""What decides whether scores pass: limits, an earlier run as baseline, two folders against each other; no torch."""
