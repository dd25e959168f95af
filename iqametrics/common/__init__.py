"""What every other room may need: files, locks, digests, names, fields, devices; imports no torch."""
