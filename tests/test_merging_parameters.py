"""Parameters by model, module and depth; what is said of wrong ones."""

from __future__ import annotations

import pytest
import yaml

from common.errors import UserError
from merging.command import main
from merging.layout import Layout, value_at
from merging.methods import methods
from merging.parameters import MergeParameter, check, parse_words
from merging.recipe import CONFIGS

NAMES = [
    "model.encoder.conv1.weight",
    "model.encoder.embed_positions.weight",
    *(f"model.encoder.layers.{layer}.fc1.weight" for layer in range(4)),
    "model.encoder.layer_norm.weight",
    "model.decoder.embed_tokens.weight",
    "model.decoder.embed_positions.weight",
    *(f"model.decoder.layers.{layer}.{part}.weight" for layer in range(2) for part in ("fc1", "encoder_attn.q_proj")),
    "model.decoder.layer_norm.weight",
]
LAYOUT = Layout(NAMES)


def _at(value: object, name: str) -> float:
    return value_at(value, f"model.{name}.weight", LAYOUT, 1.0)


def test_a_plain_number_holds_everywhere():
    assert {value_at(0.3, name, LAYOUT, 1.0) for name in NAMES} == {0.3}


def test_modules_are_addressed_by_name_and_the_most_specific_wins():
    value = {"encoder": 0.1, "embeddings": 0.2, "norms": 0.3, "decoder.layers.1": 0.4, "decoder.layers.1.fc1": 0.5}
    found = {
        "encoder.conv1": 0.1, "encoder.layers.2.fc1": 0.1, "encoder.embed_positions": 0.2, "encoder.layer_norm": 0.3,
        "decoder.embed_tokens": 0.2, "decoder.layer_norm": 0.3, "decoder.layers.0.fc1": 1.0,
        "decoder.layers.1.encoder_attn.q_proj": 0.4, "decoder.layers.1.fc1": 0.5,
    }  # fmt: skip
    assert {name: _at(value, name) for name in found} == found
    assert _at({**value, "default": 0.9}, "decoder.layers.0.fc1") == 0.9


def test_a_list_runs_over_encoder_and_decoder():
    value = [0.0, 1.0]  # six layers: 0, 0.2, ... 1
    assert [_at(value, f"encoder.layers.{layer}.fc1") for layer in range(4)] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert [_at(value, f"decoder.layers.{layer}.fc1") for layer in range(2)] == pytest.approx([0.8, 1.0])
    assert _at(value, "encoder.conv1") == 0.0
    assert _at(value, "encoder.layer_norm") == pytest.approx(0.6)
    assert _at(value, "decoder.embed_tokens") == pytest.approx(0.8)
    assert _at(value, "decoder.layer_norm") == 1.0


def test_a_list_within_a_module_runs_over_that_module():
    value = {"encoder": [0.0, 0.3], "decoder": [1.0, 5.0, 0.0]}
    assert [_at(value, f"encoder.layers.{layer}.fc1") for layer in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [_at(value, f"decoder.layers.{layer}.fc1") for layer in range(2)] == [1.0, 0.0]


def test_a_list_with_a_value_a_layer_is_those_values():
    value = [0.9, 0.1, 0.4, 0.2, 0.7, 0.3]
    found = [_at(value, f"encoder.layers.{n}.fc1") for n in range(4)]
    found += [_at(value, f"decoder.layers.{n}.fc1") for n in range(2)]
    assert found == pytest.approx(value)


WEIGHT, LAMBDA = (methods()["ties"].parameters[name] for name in ("weight", "lambda"))


@pytest.mark.parametrize(
    ("parameter", "words", "value"),
    [
        (WEIGHT, ["1"], 1.0),
        (WEIGHT, ["1/n"], 0.25),
        (WEIGHT, ["1", "1/n", "2", "3"], [1.0, 0.25, 2.0, 3.0]),
        (WEIGHT, ["1,0.5"], [1.0, 0.5]),
        (WEIGHT, ["encoder=1", "decoder=1,0"], {"encoder": 1.0, "decoder": [1.0, 0.0]}),
        (LAMBDA, ["0.5"], 0.5),
        (LAMBDA, ["embeddings=0"], {"embeddings": 0.0}),
        (methods()["ties"].parameters["normalize"], ["false"], False),
        (methods()["ties"].parameters["majority"], ["unweighted"], "unweighted"),
        (methods()["dare_ties"].parameters["seed"], ["7"], 7),
    ],
)
def test_the_command_line_is_read(parameter: MergeParameter, words: list[str], value: object):
    models = 2 if words == ["1,0.5"] else 4
    assert check(parameter, parse_words(parameter, words), models) == value


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("lambda", ["1", "2"], "one value for all models, found 2"),
        ("lambda", ["encoder=1", "2"], "either numbers or MODULE=NUMBER"),
        ("density", ["0"], r"density is 0.0, expected a number in \(0, 1\]"),
        ("density", ["nan"], "density is nan"),
        (
            "majority",
            ["weightd"],
            "majority is 'weightd', expected one of weighted, unweighted, did you mean 'weighted'",
        ),
        ("normalize", ["true", "false"], "--normalize takes one value"),
        ("weight", ["1", "2", "3"], "weight has 3 values for 4 models"),
    ],
)
def test_wrong_values_are_answered(name: str, words: list[str], message: str):
    parameter = methods()["ties"].parameters[name]
    with pytest.raises(UserError, match=message):
        check(parameter, parse_words(parameter, words), 4)


@pytest.mark.parametrize("name", methods())
def test_the_help_tells_source_ranges_and_the_recipes_defaults(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    recipe = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert methods()[name].source in words and methods()[name].formula in words
    for parameter in methods()[name].parameters.values():
        default = str(recipe[parameter.name]).lower()
        assert f"{parameter.help}; {parameter.range} (default: {default})" in words, parameter.name


def test_a_module_that_no_tensor_has_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"'decoder.layer.1', did you mean 'decoder.layers.1"):
        LAYOUT.check_modules("lambda", {"decoder.layer.1": 0.5})
