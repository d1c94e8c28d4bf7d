"""`VJEPA2Config`: defaults, checks at construction and on assignment, and the bytes of its file."""

import contextlib
import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa2.errors import CheckpointFormatError, CheckpointNotFoundError, ConfigError, VJEPAError
from vjepa2.errors import UnknownOptionError as UnknownOption
from vjepa2.models.configuration import ALIASES, FIELDS, VJEPA2Config
from wrong_values import EVERYTHING, assert_named

# Written down from the published checkpoint table, not computed.
VITL_FILE = """{
  "attention_dropout": 0.0,
  "attention_probs_dropout_prob": 0.0,
  "crop_size": 256,
  "drop_path_rate": 0.0,
  "frames_per_clip": 64,
  "hidden_act": "gelu",
  "hidden_size": 1024,
  "in_chans": 3,
  "initializer_range": 0.02,
  "layer_norm_eps": 1e-06,
  "mlp_ratio": 4.0,
  "model_type": "vjepa2",
  "num_attention_heads": 16,
  "num_hidden_layers": 24,
  "num_pooler_layers": 3,
  "patch_size": 16,
  "pred_hidden_size": 384,
  "pred_mlp_ratio": 4.0,
  "pred_num_attention_heads": 12,
  "pred_num_hidden_layers": 12,
  "pred_num_mask_tokens": 10,
  "pred_zero_init_mask_tokens": true,
  "qkv_bias": true,
  "transformers_version": "5.23.0",
  "tubelet_size": 2
}
"""


def test_defaults_are_vit_l_and_the_file_is_byte_for_byte_the_published_one() -> None:
    assert VJEPA2Config().to_json_string() == VITL_FILE


def test_inherited_fields_have_their_defaults() -> None:
    config = VJEPA2Config()
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1}
    assert config.num_labels == 2
    assert config.return_dict is True and config.use_return_dict is True
    assert config.output_hidden_states is False and config.output_attentions is False
    assert config.problem_type is None and config.dtype is None and config.architectures is None
    assert config.name_or_path == "" and config._attn_implementation is None
    assert config.is_encoder_decoder is False and config.chunk_size_feed_forward == 0


def test_derived_numbers() -> None:
    config = VJEPA2Config(hidden_size=96, num_attention_heads=4, pred_hidden_size=120)
    assert (config.head_dim, config.pred_head_dim) == (24, 10)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hidden_size": 48.0}, "hidden_size must be a whole number, got 48.0"),
        ({"mlp_ratio": "4"}, "mlp_ratio must be a number, got '4'"),
        ({"crop_size": (256, 256)}, "crop_size must be a whole number"),
        ({"patch_size": [16, 16]}, "patch_size must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number, got True"),
        ({"qkv_bias": 1}, "qkv_bias must be True or False, got 1"),
        ({"hidden_act": 3}, "hidden_act must be a string"),
        ({"architectures": "VJEPA2Model"}, "architectures must be"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 is out of range: it must be 1 to 1000"),
        ({"hidden_size": -16}, "hidden_size=-16 is out of range"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0 is out of range: it must be at least 0"),
        ({"attention_dropout": float("nan")}, "attention_dropout=nan is out of range"),
        ({"layer_norm_eps": 0.0}, "a number above 0, at most"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio=inf is out of range"),
        ({"initializer_range": -1.0}, "0 to 1e+30"),
        ({"hidden_act": "gelo"}, "Did you mean 'gelu'"),
        ({"problem_type": "regressive"}, "Did you mean 'regression'"),
        ({"dtype": "float31"}, "Did you mean 'float32'"),
        ({"attn_implementation": "flash_attention_2"}, "Allowed: eager, sdpa"),
        ({"num_labels": 0}, "num_labels must be 1 or more, got 0"),
        ({"num_labels": 10**30}, "num_labels must be 1000000 or less, got 10000000"),
        ({"num_labels": 3.0}, "num_labels must be an integer, got 3.0 (float)"),
        ({"head_sizes": {"verb": 10**30}}, "at most 1000000 classes together"),
        ({"id2label": {10**400: "a"}}, "ids 0, 1, ... without a gap"),
        ({"label2id": {"a": float("inf")}}, "label2id needs whole numbers"),
        ({"hidden_size": 10**400}, "hidden_size=a number of 1329 bits is out of range"),
        ({"hidden_size": 10**30}, "it must be 1 to 131072"),
        ({"pred_hidden_size": 10**30}, "it must be 1 to 131072"),
        ({"in_chans": 10**30}, "it must be 1 to 131072"),
        ({"patch_size": 10**30}, "it must be 1 to 65536"),
        ({"crop_size": 10**30}, "it must be 1 to 65536"),
        ({"tubelet_size": 10**30}, "it must be 1 to 10000000"),
        ({"pred_num_mask_tokens": 10**18}, "it must be 1 to 1000000"),
        ({"num_pooler_layers": 10**30}, "it must be 0 to 1000"),
        ({"action_size": 10**30, "model_type": "vjepa2_ac"}, "it must be 1 to 131072"),
        ({"mlp_ratio": 1e300}, "a number above 0, at most 1000"),
        ({"pred_mlp_ratio": 10**400}, "a number above 0, at most 1000"),
        ({"layer_norm_eps": 10**400}, "a number above 0, at most 1e+30"),
        (
            {"hidden_size": 65536, "mlp_ratio": 500.0},
            "hidden_size=65536, mlp_ratio=500.0 make a weight matrix of 32768000 x 65536 numbers",
        ),
        ({"mlp_ratio": 1e-9}, "hidden_size=1024, mlp_ratio=1e-09 make a weight matrix of 0 x 1024"),
        (
            {"patch_size": 65536},
            "tubelet_size=2, patch_size=65536, hidden_size=1024 make a weight matrix of 1024 x 257",
        ),
        (
            {"pred_num_mask_tokens": 10**6, "pred_hidden_size": 12_000, "pred_mlp_ratio": 1},
            "pred_num_mask_tokens=1000000, pred_hidden_size=12000 make",
        ),
        ({"hidden_size": 65536, "mlp_ratio": 1}, "hidden_size=65536 make a weight matrix of 26214"),
        ({"num_labels": 10**6, "hidden_size": 16_000}, "num_labels=1000000 make a weight matrix"),
        ({"id2label": {0: "a", 2: "b"}}, "ids 0, 1, ... without a gap, got [0, 2]"),
        ({"id2label": {"x": "a"}}, "whole numbers as keys"),
        ({"id2label": {0: 7}}, "id2label[0] must be a string, got 7"),
        ({"label2id": {"a": "x"}}, "label2id needs whole numbers"),
        ({"hidden_size": 100}, "hidden_size=100 cannot be divided into num_attention_heads=16"),
        ({"pred_hidden_size": 50}, "pred_num_attention_heads=12 heads"),
        ({"num_pooler_attention_heads": 3}, "num_pooler_attention_heads=3 heads"),
        ({"hidden_size": 64}, "gives heads of 4 channels"),
        (
            {"problem_type": "single_label_classification", "num_labels": 1},
            "needs at least 2 labels",
        ),
    ],
    ids=str,
)
def test_wrong_values_are_refused_with_got_and_allowed(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        VJEPA2Config(**values)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [*FIELDS, *ALIASES])
def test_no_value_of_a_field_leaks_another_error(name: str) -> None:
    for value in EVERYTHING:
        for make in (VJEPA2Config, lambda **values: VJEPA2Config.from_dict(values)):
            with warnings.catch_warnings(), contextlib.suppress(VJEPAError):
                warnings.simplefilter("ignore")
                repr(make(**{name: value}))


def test_only_dictionaries_make_a_configuration() -> None:
    assert_named(
        VJEPA2Config.from_dict,
        allowed=lambda value: isinstance(value, dict) and 1 not in value,
        error=ConfigError,
    )


def test_only_dictionaries_replace_fields() -> None:
    assert_named(
        VJEPA2Config().replaced,
        allowed=lambda value: isinstance(value, dict) and not value,
        error=ConfigError,
    )
    assert VJEPA2Config().replaced({"crop_size": 384}).crop_size == 384


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownOption, match=r"no option 'hiden_size'\. Did you mean 'hidden_size'"):
        VJEPA2Config(hiden_size=64)
    config = VJEPA2Config()
    with pytest.raises(UnknownOption, match=r"no field 'num_hiden_layers'\. Did you mean 'num_h"):
        config.num_hiden_layers = 3


def test_assignment_is_checked_like_construction() -> None:
    config = VJEPA2Config()
    with pytest.raises(ConfigError, match="must be a whole number"):
        config.hidden_size = 48.0  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="out of range"):
        config.num_hidden_layers = 0
    assert (config.hidden_size, config.num_hidden_layers) == (1024, 24)
    # Fields that belong together are set one after the other; `validate` looks at both.
    config.hidden_size = 90
    with pytest.raises(ConfigError, match="cannot be divided"):
        config.validate()
    config.num_attention_heads = 3
    config.validate()


def test_trainers_may_leave_notes_of_their_own() -> None:
    config = VJEPA2Config()
    config.use_cache = False  # type: ignore[attr-defined]
    assert json.loads(config.to_json_string())["use_cache"] is False


def test_whole_numbers_stay_whole() -> None:
    assert '"mlp_ratio": 4,' in VJEPA2Config(mlp_ratio=4).to_json_string()


class TestLabels:
    def test_num_labels_renames(self) -> None:
        config = VJEPA2Config(num_labels=3)
        assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
        config.num_labels = 1
        assert config.label2id == {"LABEL_0": 0}
        assert '"LABEL_0": 0' in config.to_json_string()

    def test_two_labels_are_the_default_and_are_not_written(self) -> None:
        assert "label" not in VJEPA2Config(num_labels=2).to_json_string()

    def test_names_make_the_number_and_the_inverse(self) -> None:
        config = VJEPA2Config(id2label={1: "down", 0: "up", 2: "still"})
        assert config.num_labels == 3
        assert list(config.id2label.items()) == [(0, "up"), (1, "down"), (2, "still")]
        assert config.label2id == {"up": 0, "down": 1, "still": 2}

    def test_new_names_replace_an_outdated_inverse(self) -> None:
        config = VJEPA2Config(num_labels=2)
        config.id2label = {0: "a", 1: "b"}
        assert config.label2id == {"a": 0, "b": 1}

    def test_equal_names_are_told(self) -> None:
        """The inverse can hold only one of them; the port loads such a file without a word."""
        with pytest.warns(UserWarning, match=r"name 'up' to the classes \[0, 2\]; .* keeps one"):
            config = VJEPA2Config(id2label={0: "up", 1: "down", 2: "up"})
        assert config.num_labels == 3 and config.label2id == {"up": 2, "down": 1}

    def test_number_wins_over_names_with_a_warning(self) -> None:
        with pytest.warns(UserWarning, match="num_labels=3 disagrees with the 2 names"):
            config = VJEPA2Config(num_labels=3, id2label={0: "a", 1: "b"})
        assert config.id2label[2] == "LABEL_2"

    def test_same_number_keeps_the_names(self) -> None:
        config = VJEPA2Config(num_labels=2, id2label={0: "a", 1: "b"})
        assert config.id2label == {0: "a", 1: "b"}

    def test_ids_come_back_as_numbers(self, tmp_path: Path) -> None:
        names = {index: f"action {index}" for index in range(12)}
        VJEPA2Config(id2label=names).save_pretrained(tmp_path)
        stored = json.loads((tmp_path / "config.json").read_text())
        assert list(stored["id2label"])[:3] == ["0", "1", "2"] and "num_labels" not in stored
        assert VJEPA2Config.from_pretrained(tmp_path).id2label == names


class TestElementType:
    @pytest.mark.parametrize("given", ["float16", "torch.float16", torch.float16])
    def test_every_spelling(self, given: Any) -> None:
        config = VJEPA2Config(dtype=given)
        assert config.dtype is torch.float16
        assert json.loads(config.to_json_string())["dtype"] == "float16"

    def test_older_name(self) -> None:
        config = VJEPA2Config.from_dict({"torch_dtype": "bfloat16"})
        assert config.dtype is torch.bfloat16 and config.torch_dtype is torch.bfloat16
        assert "torch_dtype" not in config.to_json_string()
        config.torch_dtype = "float32"
        assert config.dtype is torch.float32


class TestFiles:
    def test_unknown_keys_of_a_file_survive_a_round_trip(self, tmp_path: Path) -> None:
        content = {"model_type": "vjepa2", "use_SiLU": False, "is_causal": True, "hidden_size": 64,
                   "num_attention_heads": 4, "nested": {"a": [1, 2]}}  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(content))
        config = VJEPA2Config.from_pretrained(tmp_path)
        assert config.is_causal is True  # type: ignore[attr-defined]
        config.save_pretrained(tmp_path / "again")
        stored = json.loads((tmp_path / "again" / "config.json").read_text())
        assert {key: stored[key] for key in content} == content

    def test_round_trip_is_equal(self, tmp_path: Path) -> None:
        config = VJEPA2Config(
            hidden_size=96,
            num_attention_heads=4,
            num_labels=5,
            problem_type="regression",
            num_pooler_attention_heads=8,
            pooler_layer_norm_eps=1e-5,
            output_hidden_states=True,
        )
        config.save_pretrained(tmp_path)
        again = VJEPA2Config.from_pretrained(tmp_path)
        assert again == config
        assert (again.pooler_heads, again.pooler_eps) == (8, 1e-5)
        assert again != VJEPA2Config() and again != "something else"

    def test_own_keys_are_written_only_when_set(self) -> None:
        assert "pooler_att" not in VJEPA2Config().to_json_string()
        assert VJEPA2Config().pooler_heads == 16 and VJEPA2Config().pooler_eps == 1e-6

    def test_overrides(self, tmp_path: Path) -> None:
        VJEPA2Config(num_labels=5).save_pretrained(tmp_path)
        config = VJEPA2Config.from_pretrained(
            tmp_path, num_labels=2, id2label={0: "a", 1: "b"}, crop_size=384
        )
        assert config.crop_size == 384 and config.id2label == {0: "a", 1: "b"}
        assert config.name_or_path == str(tmp_path)
        with pytest.raises(UnknownOption, match="Did you mean 'crop_size'"):
            VJEPA2Config.from_pretrained(tmp_path, cropsize=384)
        with pytest.raises(ConfigError, match="cannot be divided"):
            VJEPA2Config.from_pretrained(tmp_path, hidden_size=1000)

    def test_another_architecture_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "vit"}')
        with pytest.raises(ConfigError, match="model_type 'vit' is another architecture") as caught:
            VJEPA2Config.from_pretrained(tmp_path)
        assert "config.json" in str(caught.value)

    @pytest.mark.parametrize("text", ["", "{", "hello", "\x00\x01"])
    def test_not_json(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointFormatError, match="is not valid JSON"):
            VJEPA2Config.from_pretrained(tmp_path)

    @pytest.mark.parametrize("depth", [52, 450, 900, 200_000])
    @pytest.mark.parametrize("closed", [True, False])
    def test_nested_too_deep(self, tmp_path: Path, depth: int, closed: bool) -> None:
        nested = "[" * depth + "]" * depth * closed
        (tmp_path / "config.json").write_text(f'{{"notes": {nested}}}' if closed else nested)
        with pytest.raises(CheckpointFormatError, match="inside each other|is not valid JSON"):
            VJEPA2Config.from_pretrained(tmp_path)

    def test_nested_like_notes_of_people(self, tmp_path: Path) -> None:
        nested: list[Any] = []
        for _ in range(48):
            nested = [{}, nested]
        (tmp_path / "config.json").write_text(json.dumps({"notes": nested}))
        VJEPA2Config.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
        assert json.loads((tmp_path / "again" / "config.json").read_text())["notes"] == nested

    def test_json_but_no_object(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("[1]")
        with pytest.raises(CheckpointFormatError, match="must hold one JSON object, got list"):
            VJEPA2Config.from_pretrained(tmp_path)

    @pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (5, r"must be text, got 5 \(int\)"),
            ([], r"must be text, got \[\] \(list\)"),
            ("spda", "'spda' does not exist. Did you mean 'sdpa'"),
        ],
    )
    def test_attention_named_in_a_file(
        self, tmp_path: Path, key: str, value: Any, message: str
    ) -> None:
        (tmp_path / "config.json").write_text(json.dumps({key: value}))
        with pytest.raises(ConfigError, match=f"config.json: attn_implementation {message}"):
            VJEPA2Config.from_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({key: "eager"}))
        assert VJEPA2Config.from_pretrained(tmp_path).attn_implementation == "eager"

    @pytest.mark.parametrize("key", ["validate", "to_dict", "_assign", "__class__"])
    def test_keys_that_would_replace_a_method(self, tmp_path: Path, key: str) -> None:
        (tmp_path / "config.json").write_text(json.dumps({key: 5}))
        with pytest.raises(ConfigError, match=f"cannot hold the key '{key}'.*Remove the key"):
            VJEPA2Config.from_pretrained(tmp_path)

    def test_wrong_value_in_a_file_names_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"hidden_size": -4}')
        with pytest.raises(ConfigError, match=r"config.json: hidden_size=-4 is out of range"):
            VJEPA2Config.from_pretrained(tmp_path)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointNotFoundError, match=r"has no file 'config\.json'"):
            VJEPA2Config.from_pretrained(tmp_path)

    def test_inconsistent_fields_are_not_written(self, tmp_path: Path) -> None:
        config = VJEPA2Config()
        config.hidden_size = 90
        with pytest.raises(ConfigError, match="cannot be divided"):
            config.save_pretrained(tmp_path)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_are_equal_and_independent(duplicate: Any) -> None:
    config = VJEPA2Config(num_labels=3, attn_implementation="eager")
    other = duplicate(config)
    assert other == config and other._attn_implementation == "eager"
    other.id2label[0] = "changed"
    assert config.id2label[0] == "LABEL_0"


def test_iteration_and_text() -> None:
    config = VJEPA2Config()
    assert "hidden_size" in list(config)
    assert repr(config).startswith("VJEPA2Config {") and '"crop_size": 256' in repr(config)


PARITY_CASES: list[dict[str, Any]] = [
    {},
    {"num_labels": 1},
    {"num_labels": 2},
    {"num_labels": 174, "hidden_size": 1408, "num_attention_heads": 22, "mlp_ratio": 48 / 11},
    {"mlp_ratio": 4, "dtype": "float16", "output_hidden_states": True, "return_dict": False},
    {"torch_dtype": "bfloat16", "output_attentions": True, "problem_type": "regression"},
    {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}},
    {"architectures": ["VJEPA2ForVideoClassification"], "qkv_bias": False, "hidden_act": "silu"},
    {"crop_size": 384, "frames_per_clip": 16, "attn_implementation": "eager"},
]


@pytest.mark.parity
@pytest.mark.parametrize("values", PARITY_CASES, ids=str)
def test_file_equals_the_port_byte_for_byte(values: dict[str, Any], tmp_path: Path) -> None:
    from transformers import VJEPA2Config as Reference

    reference = Reference(**values)
    reference.save_pretrained(tmp_path / "reference")
    VJEPA2Config(**values).save_pretrained(tmp_path / "ours")
    theirs, ours = (
        (tmp_path / side / "config.json").read_bytes() for side in ("reference", "ours")
    )
    assert ours == theirs
    # ... and each reads the other's.
    assert Reference.from_pretrained(tmp_path / "ours").to_dict() == reference.to_dict()
    again = VJEPA2Config.from_pretrained(tmp_path / "reference")
    assert again.to_json_string().encode() == theirs


@pytest.mark.parity
def test_activations_equal_the_port() -> None:
    from transformers.activations import ACT2FN

    from vjepa2.nn.activations import ACTIVATIONS

    x = torch.linspace(-6, 6, 1001)
    for name, make in ACTIVATIONS.items():
        torch.testing.assert_close(make()(x), ACT2FN[name](x), rtol=0, atol=0, msg=name)
