"""Which layer goes on which chip."""

import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.bridge.rules import assign_chips

DEFAULT, A, B = (cs.ChipSpec.preset(name) for name in ("pcm_1m", "hermes_1d", "hermes_2d"))
NAMES = [f"layers.{i}.{part}" for i in (0, 1, 11) for part in ("attn.q_proj", "mlp.up_proj")] + ["lm_head"]


def chips(rules):
    """Name of the chip of each layer."""
    return {name: spec.name if spec else None for name, spec in assign_chips(NAMES, DEFAULT, rules).items()}


def only(**special):
    return {name: special.get(name.replace(".", "_"), "pcm_1m") for name in NAMES}


@pytest.mark.parametrize("rules", [None, {}])
def test_without_rules_all_layers_are_on_the_chip(rules):
    assert chips(rules) == only()


@pytest.mark.parametrize(
    "rules",
    [
        {"lm_head": "digital"},
        {"lm_*": "digital"},
        {"re:.*head": "digital"},
        {None: DEFAULT, "lm_head": "digital"},
    ],
)
def test_digital(rules):
    assert chips(rules) == only(lm_head=None)


@pytest.mark.parametrize("order", [1, -1])
def test_exact_name_goes_before_patterns_and_patterns_before_none(order):
    rules = dict([("lm_head", A), ("*_head", B), ("*.mlp.*", B), (None, "digital")][::order])
    with pytest.raises(cs.UsageError, match="is overruled everywhere"):
        chips(rules)
    rules.pop("*_head")
    expected = {name: None if "attn" in name else "hermes_2d" for name in NAMES} | {"lm_head": "hermes_1d"}
    assert chips(rules) == expected


def test_first_pattern_wins():
    first, second = ("layers.1*", A), ("layers.1.*", B)
    assert chips(dict([second, first]))["layers.1.mlp.up_proj"] == "hermes_2d"
    assert chips(dict([second, first]))["layers.11.mlp.up_proj"] == "hermes_1d"
    with pytest.raises(cs.UsageError, match=r"rules\['layers.1.\*'\] is overruled everywhere"):
        chips(dict([first, second]))


def test_regular_expression_matches_whole_names():
    assert chips({r"re:layers\.1\..*_proj": A}) == only(
        layers_1_attn_q_proj="hermes_1d", layers_1_mlp_up_proj="hermes_1d"
    )
    with pytest.raises(cs.UsageError, match="matches no layer"):
        chips({r"re:layers\.1": A})


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (
            {"layers.0.mlp.up_prj": "digital"},
            "rules['layers.0.mlp.up_prj'] matches no layer; nearest: \"layers.0.mlp.up_proj\"",
        ),
        (
            {"re:layers.11.atn.q_proj": "digital"},
            "rules['re:layers.11.atn.q_proj'] matches no layer; nearest: \"layers.11.attn.q_proj\"",
        ),
        ({"conv*": A}, "rules['conv*'] matches no layer"),
        ({"*": A, None: B}, "rules[None] matches no layer"),
        ({"*": A, "lm_*": B}, "rules['lm_*'] is overruled everywhere; nearest: \"lm_head\""),
        ({"re:(": A}, "rules['re:(']: is not a regular expression: missing ), unterminated subpattern at position 0"),
        ({"lm_head": "analog"}, "rules['lm_head'] = 'analog': must be a ChipSpec or \"digital\""),
        ({"lm_head": None}, "rules['lm_head'] = None: must be a ChipSpec or \"digital\""),
        ({3: A}, "rules[3]: a key must be a layer name, a pattern or None"),
    ],
)
def test_refused_rules(rules, text):
    with pytest.raises(cs.UsageError) as error:
        chips(rules)
    assert str(error.value) == text


def two_layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 5)).eval()


def test_each_layer_gets_its_own_chip():
    model, x = two_layers(), torch.randn(3, 12)
    mapped = cs.map_model(model, A, rules={"1": DEFAULT.evolve(**{"tile.rows": 4})})
    assert {name: m.matrix.spec.name for name, m in mapped.chip.matrices.items()} == {"0": "hermes_1d", "1": "pcm_1m"}
    assert [len(m.matrix.plan.rows) for m in mapped.chip.matrices.values()] == [1, 3]
    parts = [cs.map_model(model, chip) for chip in (A, DEFAULT.evolve(**{"tile.rows": 4}))]
    with torch.no_grad():
        assert torch.equal(mapped(x), parts[1][1](parts[0][0](x)))


def test_digital_layer_stays_what_it_is():
    model, x = two_layers(), torch.randn(3, 12)
    mapped = cs.map_model(model, DEFAULT, rules={"1": "digital"})
    assert type(mapped[1]) is nn.Linear
    assert mapped[1].weight is model[1].weight
    assert list(mapped.chip.matrices) == ["0"]
    assert mapped.chip.plan.digital == ("1",)
    assert "kept digital by rule: 1" in str(mapped.chip.summary())
    with torch.no_grad():
        assert torch.equal(mapped[1](x), model[1](x))


def test_everything_digital_is_refused():
    with pytest.raises(cs.UsageError, match="every layer is digital, so nothing would run on the chip"):
        cs.map_model(two_layers(), DEFAULT, rules={None: "digital"})


def test_a_digital_layer_may_hold_what_devices_cannot():
    model = two_layers()
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
    assert list(cs.map_model(model, DEFAULT, rules={"1": "digital"}).chip.matrices) == ["0"]
