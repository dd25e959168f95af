"""BPCLIP's equations worked in plain NumPy, one image at a time, as the oracle of `iqametrics.bpclip`.

Each function follows the printed equation, without the reorderings that the package uses to save work. `weights` is a
state dict as arrays; `name` is the prefix of the block's tensors in it.
"""

import math
from typing import Any

import numpy as np

erf = np.vectorize(math.erf)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(weights, name, x):
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def convolve(weights, name, x):
    """Zero-padded convolution of (C, H, W), tap by tap."""
    kernel = weights[f"{name}.weight"]
    side = kernel.shape[-1]
    pad = side // 2
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((len(kernel), height, width))
    for dy in range(side):
        for dx in range(side):
            out += np.einsum("oc,chw->ohw", kernel[:, :, dy, dx], padded[:, dy : dy + height, dx : dx + width])
    bias = weights.get(f"{name}.bias")
    return out if bias is None else out + bias[:, None, None]


def window_means(x, window):
    """The mean of each window, over the pixels that are there."""
    rows = range(0, x.shape[1], window)
    columns = range(0, x.shape[2], window)
    means = [[x[:, r : r + window, c : c + window].mean(axis=(1, 2)) for c in columns] for r in rows]
    return np.moveaxis(np.array(means), -1, 0)


def gate(weights, name, x):
    hidden = gelu(convolve(weights, f"{name}.gate.phi.0", x))
    hidden = gelu(convolve(weights, f"{name}.gate.phi.2", hidden))
    return sigmoid(convolve(weights, f"{name}.gate.phi.4", hidden))


def pooling(weights, name, window, dist, ref=None, *, gelu_gate=False):
    """Eq. 1 or 2, window averages, reduction to D channels: (D, h, w)."""
    if ref is None:
        value = convolve(weights, f"{name}.value", dist)
        masked = gate(weights, name, dist) * (gelu(value) if gelu_gate else value)
    else:
        difference = np.abs(dist - ref)
        masked = gate(weights, name, difference) * np.concatenate([dist, ref, difference])
    return gelu(convolve(weights, f"{name}.reduce.0", window_means(masked, window)))


def bicubic(table, length):
    """(C, size) to (C, length): Keys' kernel with a = -0.75, pixel centres at 0.5, ends repeated."""

    def kernel(t, a=-0.75):
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    size = table.shape[1]
    out = np.zeros((len(table), length))
    for i in range(length):
        at = (i + 0.5) * size / length - 0.5
        first = math.floor(at) - 1
        for tap in range(first, first + 4):
            out[:, i] += kernel(at - tap) * table[:, min(max(tap, 0), size - 1)]
    return out


def position(weights, height, width):
    """(height width, D): the row's values beside the column's."""
    rows, columns = bicubic(weights["position.rows"], height), bicubic(weights["position.columns"], width)
    return np.array([np.concatenate([rows[:, y], columns[:, x]]) for y in range(height) for x in range(width)])


def attention(weights, name, heads, query, memory):
    """Eq. 3 on each head, joined by a last linear layer."""
    q = linear(weights, f"{name}.query", query)
    k, v = (linear(weights, f"{name}.{part}", memory) for part in ("key", "value"))
    d = q.shape[1] // heads
    parts = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        parts.append(softmax(q[:, part] @ k[:, part].T / math.sqrt(d)) @ v[:, part])
    return linear(weights, f"{name}.out", np.concatenate(parts, axis=1))


def cross_attention(weights, name, heads, query, memory):
    """Eq. 4."""
    q, m = layer_norm(weights, f"{name}.query_norm", query), layer_norm(weights, f"{name}.memory_norm", memory)
    return feed_forward(weights, f"{name}.feed_forward", attention(weights, f"{name}.attention", heads, q, m) + query)


def self_attention(weights, name, heads, tokens):
    """Eq. 5."""
    normal = layer_norm(weights, f"{name}.norm", tokens)
    attended = attention(weights, f"{name}.attention", heads, normal, normal) + tokens
    return feed_forward(weights, f"{name}.feed_forward", attended)


def feed_forward(weights, name, x):
    """The second half of a transformer's block, where the weights have one."""
    if f"{name}.norm.weight" not in weights:
        return x
    hidden = gelu(linear(weights, f"{name}.mlp.fc1", layer_norm(weights, f"{name}.norm", x)))
    return x + linear(weights, f"{name}.mlp.fc2", hidden)


def mlp(weights, name, x):
    hidden = gelu(linear(weights, f"{name}.1", layer_norm(weights, f"{name}.0", x)))
    return linear(weights, f"{name}.3", hidden)


def similarity(weights, config, x):
    """Eq. 8 and Figure 1, for one level: (K,)."""
    anchors = weights["similarity.anchors"]
    cosines = np.array([x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for y in anchors])
    if config.similarity == "cosine":
        return cosines
    scaled = math.exp(weights["similarity.log_tau"]) * cosines
    if config.similarity == "pairs":
        return np.concatenate([softmax(scaled[k : k + 2]) for k in range(0, len(scaled), 2)])
    return softmax(scaled) if config.similarity == "softmax" else scaled


def score(weights, config, dist, ref=None):
    """Eq. 1 to 9 for one image: five maps (C_i, H_i, W_i) to a number."""
    if config.standardise_levels:
        dist, ref = (None if levels is None else standardised(weights, levels) for levels in (dist, ref))
    maps = [
        pooling(
            weights,
            f"pooling.{i}",
            2 ** (4 - i),
            dist[i],
            None if ref is None else ref[i],
            gelu_gate=config.nr_gate == "gelu",
        )
        for i in range(5)
    ]
    height, width = maps[-1].shape[1:]
    tokens = [m.reshape(len(m), -1).T + position(weights, height, width) for m in maps]
    combined: list[Any] = []
    previous: Any = 0
    for i in range(4):
        value: Any = 1
        if config.information_branch:
            query = tokens[i] + (previous if config.propagation == "progressive" else 0)
            previous = cross_attention(weights, f"information.blocks.{i}", config.heads, query, tokens[i + 1])
            value = mlp(weights, f"information.mlps.{i}", previous)
        if config.weight_branch:
            weight = mlp(
                weights,
                f"weight.mlps.{i}",
                self_attention(weights, f"weight.blocks.{i}", config.heads, tokens[i]),
            )
            value = value * (sigmoid(weight) if config.information_branch else weight)
        combined.append(value)
    features = [mlp(weights, f"mapping.{i}", level.mean(axis=0)) for i, level in enumerate(combined)]
    if config.text_anchors:
        features = [similarity(weights, config, x) for x in features]
    joined = np.concatenate(features)
    if config.similarity_norm:
        joined = layer_norm(weights, "score.norm", joined)
    return linear(weights, "score.out", gelu(linear(weights, "score.hidden", joined)))[0]


def standardised(weights, levels):
    return [
        (level - weights[f"standardise.level_mean_{i}"][:, None, None])
        / weights[f"standardise.level_std_{i}"][:, None, None]
        for i, level in enumerate(levels, start=1)
    ]
