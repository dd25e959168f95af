"""Metrics as files that run without this package, and without Python.

    network.py   a metric as a network of tensors: sizing, and everything after it
    trace.py     the network as torch.export sees it, for any size or for one
    files.py     ONNX and pt2, each with a record of what it is
    proof.py     what a file computes, beside what the metric computes
    export.py    from a name to a proven file
    web.py       a page that scores the pictures that are dropped on it; assets/ is the page

Needs the extra `export`.
"""
