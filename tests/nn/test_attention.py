import pytest
import torch
from nn_random import images, randomise
from torch import nn

from iqametrics.nn.attention import MultiHeadAttention, QuickGELU, SelfAttention, TransformerBlock


def pair(dim, heads, kv_dim=None):
    """Ours and PyTorch's attention with the same random weights, as double."""
    oracle = randomise(nn.MultiheadAttention(dim, heads, kdim=kv_dim, vdim=kv_dim, batch_first=True)).double()
    ours = MultiHeadAttention(dim, heads, kv_dim=kv_dim).double().eval()
    if oracle.in_proj_weight is None:
        matrices = (oracle.q_proj_weight, oracle.k_proj_weight, oracle.v_proj_weight)
    else:
        matrices = oracle.in_proj_weight.chunk(3)
    parts = zip((ours.query, ours.key, ours.value), matrices, oracle.in_proj_bias.chunk(3), strict=True)
    with torch.no_grad():
        for linear, weight, bias in parts:
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
    ours.out.load_state_dict(oracle.out_proj.state_dict())
    return ours, oracle


@pytest.mark.parametrize(("heads", "kv_dim"), [(1, None), (4, None), (4, 24), (2, 7)])
@torch.no_grad()
def test_output_and_weights_equal_torch(heads, kv_dim):
    ours, oracle = pair(16, heads, kv_dim)
    query, memory = images(3, 5, 16), images(3, 9, kv_dim or 16)
    expected, weights = oracle(query, memory, memory, average_attn_weights=False)
    torch.testing.assert_close(ours(query, memory), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(ours.weights(query, memory), weights, atol=1e-12, rtol=0)


@torch.no_grad()
def test_without_memory_the_query_is_its_own():
    ours, oracle = pair(16, 4)
    query = images(3, 5, 16)
    expected, weights = oracle(query, query, query, average_attn_weights=False)
    torch.testing.assert_close(ours(query), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(ours.weights(query), weights, atol=1e-12, rtol=0)


@torch.no_grad()
def test_a_wrong_number_of_heads_fails_the_comparison():
    ours, oracle = pair(16, 4)
    query, memory = images(3, 5, 16), images(3, 9, 16)
    ours.heads = 2
    assert not torch.allclose(ours(query, memory), oracle(query, memory, memory)[0], atol=1e-3)


@torch.no_grad()
def test_hand_worked_case():
    """One head of width 1, all maps the identity: weights softmax(2 * [0, ln 2]) = [1/5, 4/5], values 0 and ln 2."""
    attention = MultiHeadAttention(1, 1)
    for linear in (attention.query, attention.key, attention.value, attention.out):
        linear.weight.fill_(1.0)
        linear.bias.zero_()
    log2 = torch.tensor(2.0).log()
    memory = torch.tensor([[[0.0], [log2]]])
    query = torch.tensor([[[2.0]]])
    torch.testing.assert_close(attention.weights(query, memory), torch.tensor([[[[0.2, 0.8]]]]))
    torch.testing.assert_close(attention(query, memory), (0.8 * log2).reshape(1, 1, 1))


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch():
    attention = randomise(MultiHeadAttention(64, 4, kv_dim=32))
    query, memory = images(6, 49, 64, dtype=torch.float32), images(6, 100, 32, dtype=torch.float32)
    together = attention(query, memory)
    for index in range(6):
        alone = attention(query[index : index + 1], memory[index : index + 1])
        torch.testing.assert_close(alone[0], together[index], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(attention(query.flip(0), memory.flip(0)), together.flip(0), atol=1e-6, rtol=1e-6)
    assert torch.equal(attention(query, memory), together)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    attention = MultiHeadAttention(16, 4, dropout=0.5)
    query = images(1, 8, 16, dtype=torch.float32)
    assert not torch.equal(attention(query), attention(query))
    attention.eval()
    assert torch.equal(attention(query), attention(query))


def test_gradient_is_right():
    attention = randomise(MultiHeadAttention(4, 2, kv_dim=3)).double()
    query, memory = images(1, 3, 4).requires_grad_(), images(1, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(attention, (query, memory))


@pytest.mark.parametrize("heads", [0, 5])
@pytest.mark.parametrize("kind", [MultiHeadAttention, SelfAttention])
def test_heads_must_divide_the_width(kind, heads):
    with pytest.raises(ValueError, match=f"width of 16 cannot be split into {heads} heads"):
        kind(16, heads)


@torch.no_grad()
def test_causal_attention_does_not_look_ahead():
    attention = randomise(SelfAttention(16, 4)).double()
    x = images(2, 6, 16)
    changed = x.clone()
    changed[:, 4:] += 1.0
    before, after = attention(x, causal=True), attention(changed, causal=True)
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=1e-12, rtol=0)
    assert not torch.allclose(after[:, 4:], before[:, 4:])
    assert not torch.allclose(attention(changed)[:, :4], attention(x)[:, :4])


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (1.0, 0.8457958), (-2.0, -0.0643414)])
def test_quick_gelu_by_hand(value, expected):
    """x / (1 + exp(-1.702 x)): 1 / (1 + 0.1823185) and -2 / (1 + 30.0842)."""
    assert QuickGELU()(torch.tensor(value)).item() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_block_equals_torch_encoder_layer():
    oracle = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    oracle = randomise(oracle).double()
    oracle.train()  # evaluation would take PyTorch's fused path; without dropout the two are the same function
    block = TransformerBlock(16, 4, activation="gelu").double()
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear": "mlp.fc",
    }
    weights = oracle.state_dict()
    for theirs, mine in names.items():
        weights = {name.replace(theirs, mine): tensor for name, tensor in weights.items()}
    block.load_state_dict(weights)
    x = images(2, 7, 16)
    torch.testing.assert_close(block(x), oracle(x), atol=1e-12, rtol=0)
