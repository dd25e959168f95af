"""What the documentation's site does on top of Sphinx, one file for each thing."""
