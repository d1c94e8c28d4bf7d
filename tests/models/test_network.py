"""What every network has besides `forward` and files: fresh weights, switches, facts."""

from typing import Any

import pytest
import torch

from tiny_models import clip, tiny_config
from vjepa2.errors import ConfigError, UnknownOptionError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.network import Network
from vjepa2.models.vjepa2 import VJEPA2Model

PIXELS = clip(tiny_config())


class TestFreshModels:
    def test_from_config(self) -> None:
        config = tiny_config()
        model = VJEPA2Model.from_config(config, dtype="bfloat16", attn_implementation="eager")
        assert model.dtype is torch.bfloat16
        assert model.config._attn_implementation == "eager"
        assert config._attn_implementation is None and model.config is not config
        assert VJEPA2Model._from_config(tiny_config(dtype="float16")).dtype is torch.float16

    def test_init_missing_fills_only_owners_of_the_names(self) -> None:
        model = VJEPA2ForVideoClassification(tiny_config())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(9.0)
        model.init_missing(
            ["classifier.weight", "classifier.bias", "pooler.query_tokens"],
            generator=torch.Generator().manual_seed(0),
        )
        untouched = {
            name for name, parameter in model.named_parameters() if (parameter == 9.0).all()
        }
        assert not any(name.startswith("classifier.") for name in untouched)
        assert all(name in untouched for name in model.state_dict() if name.startswith("vjepa2."))


class TestSwitches:
    def test_attention(self) -> None:
        base = VJEPA2Model(tiny_config()).eval()
        sdpa = base.get_vision_features(PIXELS)
        base.set_attn_implementation("eager")
        torch.testing.assert_close(base.get_vision_features(PIXELS), sdpa, rtol=1e-4, atol=1e-5)
        base.set_attn_implementation("sdpa")
        with pytest.raises(ConfigError, match="Did you mean 'eager'"):
            base.set_attn_implementation("eagre")

    def test_gradient_checkpointing(self) -> None:
        model = VJEPA2ForVideoClassification(tiny_config())
        assert not model.is_gradient_checkpointing and model.supports_gradient_checkpointing
        for enable, disable in (
            (model.activation_checkpointing_enable, model.activation_checkpointing_disable),
            (model.gradient_checkpointing_enable, model.gradient_checkpointing_disable),
        ):
            enable({"use_reentrant": False})
            assert model.is_gradient_checkpointing
            disable()
            assert not model.is_gradient_checkpointing
        with pytest.raises(UnknownOptionError, match="Did you mean 'use_reentrant'"):
            model.gradient_checkpointing_enable({"reentrant": True})

    @pytest.mark.parametrize(
        "options",
        [
            {"activation_checkpointing_kwargs": {"use_reentrant": True}},
            {"every_n_layers": 2},
            {"offload": True},
        ],
        ids=str,
    )
    def test_kinds_of_checkpointing_that_are_not_there(self, options: dict[str, Any]) -> None:
        model = VJEPA2Model(tiny_config())
        with pytest.raises(ConfigError, match="is not available. Only use_reentrant=False"):
            model.activation_checkpointing_enable(**options)
        assert not model.is_gradient_checkpointing

    def test_gradients_reach_frozen_embeddings_when_asked(self) -> None:
        model = VJEPA2Model(tiny_config())
        model.requires_grad_(False)
        assert not features_need_grad(model)
        model.enable_input_require_grads()
        assert features_need_grad(model)
        model.disable_input_require_grads()
        assert not features_need_grad(model)

    def test_facts(self) -> None:
        classifier = VJEPA2ForVideoClassification(tiny_config())
        count = sum(value.numel() for value in classifier.state_dict().values())
        assert classifier.num_parameters() == count
        assert classifier.base_model is classifier.vjepa2
        assert classifier.vjepa2.base_model is classifier.vjepa2
        assert classifier.dtype is torch.float32 and classifier.device == torch.device("cpu")
        assert classifier.main_input_name == "pixel_values_videos"
        assert classifier.base_model_prefix == "vjepa2"

    def test_embedding_tables_can_be_left_out(self) -> None:
        model = VJEPA2Model(tiny_config())
        count = model.num_parameters()
        model.table = torch.nn.Embedding(3, 5)
        assert model.num_parameters() == count + 15
        assert model.num_parameters(exclude_embeddings=True) == count

    def test_trainable_parameters(self) -> None:
        model = VJEPA2ForVideoClassification(tiny_config())
        model.vjepa2.requires_grad_(False)
        head = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("vjepa2."))
        assert model.num_parameters(only_trainable=True) == head


def features_need_grad(model: VJEPA2Model) -> bool:
    return model.get_vision_features(PIXELS).requires_grad


def test_an_embedding_must_be_named() -> None:
    class Nameless(Network):
        pass

    with pytest.raises(NotImplementedError, match="must name its patch embedding"):
        Nameless(tiny_config()).get_input_embeddings()
