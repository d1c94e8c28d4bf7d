"""`Network`: what every model of this package has besides `forward` and files.

A plain `nn.Module` with a configuration, fresh weights, a few facts, and the switches that
trainers and adapters look for under these names (attention implementation, recomputation of
activations, gradients at the input).
"""

import copy
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vjepa2.errors import ConfigError, check_choice, check_kind, check_option_names, described
from vjepa2.models.configuration import ATTENTION_IMPLEMENTATIONS, VJEPA2Config
from vjepa2.nn.init import init_weights
from vjepa2.runtime import resolve_dtype


class Network(nn.Module):
    """A model with a configuration.

    Subclasses take one `VJEPA2Config`, call `super().__init__(config)` first, and initialise
    their parameters in the constructor (nothing happens there on the meta device).

    Attributes:
        config: the configuration; `config._attn_implementation` is never None.
    """

    config_class: ClassVar[type[VJEPA2Config]] = VJEPA2Config
    base_model_prefix: ClassVar[str] = "vjepa2"
    main_input_name: ClassVar[str] = "pixel_values_videos"
    input_modalities: ClassVar[tuple[str, ...]] = ("video",)
    supports_gradient_checkpointing: ClassVar[bool] = True
    # Read by the Trainer of `transformers`: `forward` refuses arguments that it does not know.
    accepts_loss_kwargs: ClassVar[bool] = False
    # Read by accelerate: modules whose parts must stay on one device (residual connections).
    _no_split_modules: ClassVar[tuple[str, ...]] = (
        "Block",
        "VJEPA2Embeddings",
        "PoolerSelfAttentionLayer",
        "PoolerCrossAttentionLayer",
    )

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        if not isinstance(config, VJEPA2Config):
            raise ConfigError(
                f"{type(self).__name__} takes a VJEPA2Config, got {type(config).__name__}. "
                f"To load weights use {type(self).__name__}.from_pretrained(folder_or_hub_name)."
            )
        config.validate()
        if config._attn_implementation is None:
            config._attn_implementation = "sdpa"
        self.config = config
        self._grads_hook: RemovableHandle | None = None

    @classmethod
    def from_config(
        cls,
        config: VJEPA2Config,
        *,
        dtype: str | torch.dtype | None = None,
        attn_implementation: str | None = None,
    ) -> Self:
        """Make a model with fresh weights from a copy of `config`.

        Args:
            config: the network's numbers; not changed.
            dtype: element type of the parameters; None means `config.dtype`, or float32.
            attn_implementation: "sdpa" or "eager"; None keeps the configuration's choice.

        Raises:
            ConfigError: an argument is wrong.
        """
        check_kind("config", config, VJEPA2Config, words="a VJEPA2Config")
        own = copy.deepcopy(config)
        if attn_implementation is not None:
            own.attn_implementation = attn_implementation
        target = dtype if dtype is not None else own.dtype
        model = cls(own)
        return model if target is None else model.to(resolve_dtype(target))

    _from_config = from_config  # the port's name

    # -- switches ---------------------------------------------------------------------------------

    def set_attn_implementation(self, name: str) -> None:
        """Choose how attention is computed: "sdpa" (fused) or "eager" (written out).

        Raises:
            ConfigError: another name; the message lists what is available.
        """
        check_choice("attn_implementation", name, ATTENTION_IMPLEMENTATIONS)
        # A classifier made of parts has parts with a configuration of their own.
        for part in self.modules():
            if isinstance(part, Network):
                part.config._attn_implementation = name

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Keep no activations inside the blocks in training; compute them again going backward.

        The arguments are those that trainers pass.

        Args:
            activation_checkpointing_kwargs: only `use_reentrant=False` exists.
            every_n_layers: only 1, every block.
            offload: only False.

        Raises:
            ConfigError: another value.
            UnknownOptionError: another option.
        """
        check_kind(
            "activation_checkpointing_kwargs",
            activation_checkpointing_kwargs,
            (Mapping, NoneType),
            words="a dictionary, or None",
        )
        options = dict(activation_checkpointing_kwargs or {})
        check_option_names("activation checkpointing", options, ["use_reentrant"])
        if options.get("use_reentrant") or every_n_layers != 1 or offload:
            raise ConfigError(
                f"Activation checkpointing with use_reentrant={options.get('use_reentrant', False)}"
                f", every_n_layers={every_n_layers}, offload={offload} is not available. Only "
                "use_reentrant=False, every_n_layers=1, offload=False is: every block is computed "
                "again, which gives the same gradients."
            )
        self._set_gradient_checkpointing(True)

    def activation_checkpointing_disable(self) -> None:
        """Undo `activation_checkpointing_enable`."""
        self._set_gradient_checkpointing(False)

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Older name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(
            gradient_checkpointing_kwargs, every_n_layers=every_n_layers, offload=offload
        )

    def gradient_checkpointing_disable(self) -> None:
        """Older name of `activation_checkpointing_disable`."""
        self.activation_checkpointing_disable()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether any part recomputes its activations."""
        return any(getattr(part, "gradient_checkpointing", False) for part in self.modules())

    def _set_gradient_checkpointing(self, value: bool) -> None:
        for part in self.modules():
            if hasattr(part, "gradient_checkpointing"):
                vars(part)["gradient_checkpointing"] = value

    def get_input_embeddings(self) -> nn.Module:
        """The module that turns pixels into tokens."""
        raise NotImplementedError(f"{type(self).__name__} must name its patch embedding.")

    def enable_input_require_grads(self) -> None:
        """Let gradients reach the tokens although the embedding is frozen (adapters need it)."""
        if self._grads_hook is None:
            self._grads_hook = self.get_input_embeddings().register_forward_hook(_require_grad)

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        if self._grads_hook is not None:
            self._grads_hook.remove()
            self._grads_hook = None

    # -- facts ------------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the first parameter that holds values."""
        devices = [parameter.device for parameter in self.parameters()]
        return next((device for device in devices if device.type != "meta"), devices[0])

    @property
    def base_model(self) -> nn.Module:
        """The encoder-predictor model inside a classifier; the model itself otherwise."""
        base = getattr(self, self.base_model_prefix, self)
        assert isinstance(base, nn.Module)
        return base

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Number of scalar parameters.

        Args:
            only_trainable: count only those that require gradients.
            exclude_embeddings: leave out `nn.Embedding` tables, as trainers ask; V-JEPA 2 itself
                has none, an adapter may.
        """
        tables = {
            id(parameter)
            for part in self.modules()
            if exclude_embeddings and isinstance(part, nn.Embedding)
            for parameter in part.parameters()
        }
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if (parameter.requires_grad or not only_trainable) and id(parameter) not in tables
        )

    # -- weights ----------------------------------------------------------------------------------

    def init_missing(
        self, names: Iterable[str], *, generator: torch.Generator | None = None
    ) -> None:
        """Give fresh values to the parameters `names`, which no checkpoint holds.

        Works on the largest submodules all of whose parameters are in `names`, and on the direct
        owner of those that remain; other parameters of such an owner are touched too, so this
        runs before stored tensors are put in place.

        Raises:
            ConfigError: a name is no parameter's.
        """
        check_kind("names", names, Iterable, words="names of parameters")
        wanted = {names} if isinstance(names, str) else set(names)
        if strangers := sorted(wanted - {name for name, _ in self.named_parameters()}, key=str):
            raise ConfigError(
                f"{type(self).__name__} has no parameter {described(strangers[0])}. "
                "Its names are those of model.named_parameters()."
            )
        for prefix, part in _owners(self, wanted):
            init_weights(part, std=float(self.config.initializer_range), generator=generator)
            wanted -= {f"{prefix}{name}" for name, _ in part.named_parameters()}
        assert not wanted, f"no module owns {sorted(wanted)}"


def _owners(root: nn.Module, wanted: set[str]) -> list[tuple[str, nn.Module]]:
    """Submodules to initialise, with the prefix of their parameter names."""
    found: list[tuple[str, nn.Module]] = []

    def visit(part: nn.Module, prefix: str) -> None:
        own = {f"{prefix}{name}" for name, _ in part.named_parameters()}
        direct = {f"{prefix}{name}" for name, _ in part.named_parameters(recurse=False)}
        if own & wanted and (own <= wanted or direct & wanted):
            found.append((prefix, part))
        elif own & wanted:
            for name, child in part.named_children():
                visit(child, f"{prefix}{name}.")

    visit(root, "")
    return found


def _require_grad(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    output.requires_grad_(True)
