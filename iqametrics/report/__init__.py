"""A run of `score` as one page that opens from the disk; no torch until pictures are to be explained."""
