"""The loss that makes adjectives true of known damage."""

import math

import pytest
import torch

from iqametrics.bpclip.anchors import read_adjectives
from iqametrics.bpclip.objective import BpclipLossConfig, BpclipObjective
from iqametrics.bpclip.word_loss import pairs_of, said, word_loss
from iqametrics.datasets.distortions import find_distortion
from iqametrics.errors import RecipeError
from iqametrics.objective import Batch
from iqametrics.ranking import UNCHAINED
from iqametrics.training.recipes import find_recipe, list_recipes, read_tables
from iqametrics.words import DAMAGE, NONE, UNKNOWN, WORDS, word_of

SMALL = {"backbone": "efficientnet_lite0", "width": 8, "heads": 2, "text_width": 16, "score_hidden": 8}
BLURRY, NOISY, BANDED = (WORDS.index(word) for word in ("blurry", "noisy", "banded"))


def numbers(**columns):
    """Numbers of three pictures, 0 but for the named words."""
    found = torch.zeros(3, 20)
    for word, values in columns.items():
        found[:, pairs_of([word])[word]] = torch.tensor(values)
    return found


def test_an_adjective_is_said_by_as_much_as_it_is_nearer_than_its_antonym():
    words = [adjective.word for adjective in read_adjectives()]
    descriptors = torch.zeros(1, 2, 40)
    descriptors[0, :, words.index("blurry")] = torch.tensor([0.5, 1.5])
    descriptors[0, :, words.index("sharp")] = torch.tensor([0.25, 0.25])
    pairs = pairs_of(WORDS)
    assert set(WORDS) - set(pairs) == {"banded", "oversharpened"}
    assert said(descriptors)[0, pairs["blurry"]] == pytest.approx(0.75)
    assert said(descriptors)[0, pairs["noisy"]] == 0


def test_a_case_worked_by_hand():
    """One blurred picture among a clean and a noisy one, and the noisy one among the other two."""
    values = numbers(blurry=[1.0, 0.0, -1.0], noisy=[0.0, 0.0, 2.0])
    found = word_loss(values, torch.tensor([BLURRY, NONE, NOISY]))
    softplus = [math.log1p(math.exp(-gap)) for gap in (1, 2, 2, 2)]
    assert float(found) == pytest.approx(sum(softplus) / 4, rel=1e-6)


def test_what_is_unknown_is_left_out_and_damage_without_an_adjective_is_not():
    values = numbers(blurry=[1.0, 0.0, -1.0])
    unknown = word_loss(values, torch.tensor([BLURRY, NONE, UNKNOWN]))
    banded = word_loss(values, torch.tensor([BLURRY, NONE, BANDED]))
    assert float(unknown) == pytest.approx(math.log1p(math.exp(-1)), rel=1e-6)
    assert float(banded) == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2, rel=1e-6)


def test_nothing_to_compare_costs_nothing():
    values = torch.rand(3, 20, requires_grad=True)
    loss = word_loss(values, torch.tensor([UNKNOWN, NONE, NONE]))
    loss.backward()
    assert loss == 0
    assert not values.grad.any()


def test_the_gradient_goes_to_the_word_of_the_damage_and_to_no_other():
    values = torch.zeros(3, 20, requires_grad=True)
    word_loss(values, torch.tensor([NOISY, NONE, UNKNOWN])).backward()
    pair = pairs_of(["noisy"])["noisy"]
    assert values.grad[0, pair] < 0 < values.grad[1, pair]
    assert values.grad[2, pair] == 0
    values.grad[:, pair] = 0
    assert not values.grad.any()


def test_each_word_has_damage_that_there_is():
    assert tuple(DAMAGE) == WORDS
    for word, kinds in DAMAGE.items():
        for kind in kinds:
            assert find_distortion(kind).name == kind
            assert WORDS[word_of(kind)] == word
    assert word_of(None) == NONE
    assert word_of("shuffled_blocks") == UNKNOWN


def small_batch(words):
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    chains = torch.tensor([UNCHAINED, (0, -1), (0, 3), (0, 3)])
    mos = torch.tensor([0.5, 1.0, 0.7, 0.5])
    return Batch([images], None, mos, torch.zeros(4), torch.zeros(4), chains=chains, words=words)


def test_the_objective_adds_it_by_its_weight_and_it_is_off_by_default():
    words = torch.tensor([UNKNOWN, NONE, BLURRY, BLURRY])
    losses = {}
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        loss = {"order_weight": 0.5, "word_weight": weight}
        objective = BpclipObjective(*BpclipObjective._parts("bpclip-nr", {**SMALL, "loss": loss})).eval()
        total, parts = objective.loss(small_batch(words))
        losses[weight] = total.detach(), parts
        assert objective.learns_order
    off, parts_off = losses[0.0]
    on, parts = losses[2.0]
    assert set(parts_off) == {"mse", "order"}
    assert float(on) == pytest.approx(float(off) + 2 * float(parts["word"]), rel=1e-5)
    model = objective.model
    with torch.no_grad():
        expected = word_loss(said(model.encode(model.levels(small_batch(words).dist)).descriptors), words)
    assert float(parts["word"]) == pytest.approx(float(expected), rel=1e-5)
    assert BpclipLossConfig().word_weight == 0


def test_no_recipe_of_the_package_has_it():
    for name in list_recipes():
        assert "word_weight" not in read_tables(find_recipe(name)).get("model", {}).get("loss", {})


@pytest.mark.parametrize(
    ("metric", "changes"),
    [("bpclip-fr", {}), ("bpclip-nr", {"text_anchors": False}), ("bpclip-nr", {"n_anchors": 4})],
)
def test_words_need_a_picture_alone_and_the_40_anchors(metric, changes):
    with pytest.raises(RecipeError, match=r"model\.loss\.word_weight = 0\.1: words are learnt by bpclip-nr"):
        BpclipObjective.from_recipe(metric, {**SMALL, **changes, "loss": {"word_weight": 0.1}}, {})
