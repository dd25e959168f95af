"""Random weights for the parity tests, and the means to damage a network."""

import torch
from torch import nn


def randomise(module, seed=0):
    """Give every parameter and buffer a value that shows: nothing stays at 0, 1 or 1e-6.

    Vectors (biases, norm weights, LayerScale, embeddings of one token, running means) are of order one; matrices and
    kernels are of order one over the square root of their inputs, so that activations are of order one too and no
    softmax saturates, which would hide a wrong scale or a wrong number of heads.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point() or name.endswith("attn_mask"):
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
            if name.endswith("running_var"):
                noise = 0.5 + noise.abs()
            elif name.endswith(("pos_embed", "positional_embedding", "token_embedding.weight", "cls_token")):
                pass
            elif tensor.ndim > 1:
                fan_in = tensor.shape[0] if name.endswith(("proj", "text_projection")) else tensor[0].numel()
                noise *= 1.5 * fan_in**-0.5
            tensor.copy_(noise)
    return module.eval()


def images(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype)


def leave_out_block(blocks, index=1):
    """The mutant that skips one block."""
    blocks[index].forward = lambda x, **_: x


def plain_gelu(module):
    """The mutant with exact GELU in each block."""
    for block in module.blocks:
        block.mlp.act = nn.GELU()


def heads(module, number):
    """The mutant whose attention is split into another number of heads."""
    for block in module.blocks:
        block.attn.heads = number
