"""`PretrainedModel`: a network's road to and from files.

`from_pretrained`, `save_pretrained` and `push_to_hub`, with the names, arguments and files of the
Hugging Face port (`transformers` 5.23). Every argument is explicit and unknown ones are refused.
"""

import copy
import dataclasses
import inspect
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Self, cast

import torch

from vjepa2.errors import ConfigError, check_flag, check_kind, check_option_names, check_path
from vjepa2.files import atomic_folder
from vjepa2.models.config_file import CONFIG_NAME
from vjepa2.models.configuration import ALIASES, FIELDS, VJEPA2Config
from vjepa2.models.network import Network
from vjepa2.models.preset_files import (
    cached_files_named,
    named_preset,
    published_probe,
    requested,
)
from vjepa2.models.weights_file import (
    FileChoice,
    Opened,
    check_choice_of_parts,
    open_file,
    open_folder_with_probe,
    refuse_folder_options,
    weights_path,
)
from vjepa2.runtime import resolve_dtype
from vjepa2.weights.hub import HubOptions, open_source, upload_folder
from vjepa2.weights.load import LoadPlan, LoadReport, load_into, stored_dtype
from vjepa2.weights.mismatch import fold
from vjepa2.weights.placement import Device, DeviceMap, choose_placement, dispatch
from vjepa2.weights.read import Checkpoint, read_checkpoint
from vjepa2.weights.save import all_values, outdated_weights, write_weights
from vjepa2.weights.skeleton import Skeleton, collector_paused


class PretrainedModel(Network):
    """Base of the models that are read from and written to checkpoints.

    Attributes:
        load_report: what `from_pretrained` did; None for a model with fresh weights.
    """

    load_report: LoadReport | None = None
    _parts: ClassVar[tuple[str, ...]] = ("encoder", "predictor")
    """What of an original checkpoint belongs to the model; "probe" for one with a head."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        config: VJEPA2Config | str | os.PathLike[str] | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device_map: DeviceMap | None = None,
        max_memory: Mapping[Device, int | str] | None = None,
        offload_folder: str | os.PathLike[str] | None = None,
        attn_implementation: str | None = None,
        ignore_mismatched_sizes: bool = False,
        fresh_predictor: bool = False,
        output_loading_info: bool = False,
        generator: torch.Generator | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        variant: str | None = None,
        from_key: str | None = None,
        probe: str | os.PathLike[str] | None = None,
        head: int | None = None,
        **config_overrides: Any,
    ) -> Self:
        """Load a model completely, in evaluation mode, or raise.

        Weights are views of the memory-mapped file; training them never changes the file.
        `model.load_report` names every tensor that was dropped, made fresh or cast.

        Args:
            name_or_path: folder; or `owner/name` of a hub repository (cached, mirrors by
                HF_ENDPOINT, offline by HF_HUB_OFFLINE=1); or the name of a published model such as
                "vjepa2-vitl" (docs/checkpoints.md; mirrors by VJEPA2_BASE_URL); or one weights
                file, such as an original "vitl.pt". A file stands alone: its shapes tell the
                configuration (a config.json beside it is not read), and its values are looked at.
            config: configuration to use in place of the stored one, or where to read it.
            dtype: element type of the parameters; None or "auto" keeps the stored one.
            torch_dtype: older name of `dtype`.
            device_map: None (PyTorch's default device), a device, "auto" (best device; several
                when the weights do not fit one), or module names to devices, "cpu" or "disk".
                More than one device needs the extra `accelerate`.
            max_memory: most bytes per device, for device_map="auto".
            offload_folder: where modules on "disk" are kept if the weights are a pickle; every
                load makes a folder of its own there, which may be deleted after the model.
            attn_implementation: "sdpa" (default) or "eager".
            ignore_mismatched_sizes: make mis-shaped tensors fresh instead of raising.
            fresh_predictor: give an encoder that was exported without its predictor a new one of
                random numbers, for its features or for training; a stored one is refused.
            output_loading_info: return (model, info), see `LoadReport.as_loading_info`.
            generator: source of fresh values, for parameters that the checkpoint lacks.
            revision: branch, tag or commit.
            cache_dir: folder of downloads.
            token: access token, True for the stored one, False for none; for hub repositories, a
                file has no use for it.
            local_files_only: use only what was downloaded before.
            subfolder: folder inside the repository or folder.
            variant: infix of the weights file, such as "fp16".
            from_key: sub-dictionary of an original file to take the encoder from; None for the
                first there of "target_encoder", "ema_encoder", "encoder".
            probe: original probe file whose pooler and classifier to use, or the name of a
                published one (classifiers only).
            head: which of several probes in one file, counted from 0.
            config_overrides: fields of the configuration with another value (num_labels=5).

        Returns:
            The model, or (model, info).

        Raises:
            UnknownOptionError: an argument is neither listed here nor a configuration field.
            ConfigError: a value is wrong, or devices do not exist.
            CheckpointNotFoundError, CheckpointFormatError, UnsafeCheckpointError: see
                `vjepa2.weights.read`.
            CheckpointMismatchError: the weights do not fit; all differences are listed.
            MissingExtraError: several devices without accelerate.
        """
        allowed = {*inspect.signature(cls.from_pretrained).parameters, *FIELDS, *ALIASES}
        check_option_names(
            f"{cls.__name__}.from_pretrained", config_overrides, allowed - {"config_overrides"}
        )
        check_path("name_or_path", name_or_path)
        for flag, value in (
            ("fresh_predictor", fresh_predictor),
            ("ignore_mismatched_sizes", ignore_mismatched_sizes),
            ("output_loading_info", output_loading_info),
        ):
            check_flag(flag, value)
        check_kind("variant", variant, (str, NoneType), words="text, or None")
        check_kind(
            "generator", generator, (torch.Generator, NoneType), words="a torch.Generator, or None"
        )
        if offload_folder is not None:
            check_path("offload_folder", offload_folder)
        hub = HubOptions(
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            subfolder=subfolder,
        )
        choice = FileChoice(from_key, probe, head)
        check_choice_of_parts(choice, parts=cls._parts, owner=cls.__name__)
        path, own_config = weights_path(name_or_path), config
        cached: list[Path] = []
        if path is None and (preset := named_preset(name_or_path)):
            refuse_folder_options(revision=revision)
            path, published, choice = requested(
                preset,
                parts=cls._parts,
                choice=choice,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
            own_config = published if config is None else config
            cached += [
                path,
                *([Path(choice.probe)] if preset.kind == "probe" and choice.probe else []),
            ]
        by_path, overrides = choice.probe, config_overrides
        choice, of_probe = published_probe(
            choice, cache_dir=cache_dir, local_files_only=local_files_only
        )
        if choice.probe is not None and choice.probe != by_path:
            cached.append(Path(choice.probe))
            overrides = config_overrides if config is not None else {**of_probe, **config_overrides}
        with collector_paused(), cached_files_named(cached):
            if path is None:
                opened = cls._open_folder(
                    name_or_path, hub, config, overrides, choice=choice, variant=variant
                )
            else:
                refuse_folder_options(revision=revision, subfolder=subfolder, variant=variant)
                opened = open_file(
                    path,
                    kind=cls.config_class,
                    parts=cls._parts,
                    config=None
                    if own_config is None
                    else _read_config(cls.config_class, own_config),
                    overrides=overrides,
                    choice=choice,
                )
            own, checkpoint, assumed = opened
            own.name_or_path = os.fspath(name_or_path)
            if attn_implementation is not None:
                own.attn_implementation = attn_implementation
            own.dtype = _one_dtype(dtype, torch_dtype, own.dtype) or stored_dtype(checkpoint)
            model, report = cls._filled(
                own,
                checkpoint,
                device_map=device_map,
                max_memory=max_memory,
                offload_folder=offload_folder,
                replace_mismatched=ignore_mismatched_sizes,
                fresh_predictor=fresh_predictor,
                generator=generator,
            )
            model.load_report = report = dataclasses.replace(report, assumed=assumed)
        if report.fresh:
            warnings.warn(
                f"{len(report.fresh)} parameters of {cls.__name__} are not in "
                f"{os.fspath(name_or_path)} and were made fresh: {fold(report.fresh)}. Train the "
                "model before you use its predictions.",
                stacklevel=2,
            )
        # The port's interface: one argument turns the result into a pair.
        return cast(Self, (model, report.as_loading_info())) if output_loading_info else model

    @classmethod
    def _open_folder(
        cls,
        name_or_path: str | os.PathLike[str],
        hub: HubOptions,
        config: VJEPA2Config | str | os.PathLike[str] | None,
        overrides: Mapping[str, Any],
        *,
        choice: FileChoice,
        variant: str | None,
    ) -> Opened:
        """Weights and configuration of a folder or repository."""
        if choice.from_key is not None:
            raise ConfigError(
                "from_key= names a sub-dictionary of one original file; "
                f"{os.fspath(name_or_path)} is a folder or a repository."
            )
        source = open_source(name_or_path, options=hub)
        if config is None:
            stored = cls.config_class.from_json_file(source.require(CONFIG_NAME))
        else:
            stored = _read_config(cls.config_class, config)
        checkpoint = read_checkpoint(source, variant=variant)
        if choice.probe is not None:
            return open_folder_with_probe(checkpoint, stored, overrides=overrides, choice=choice)
        return Opened(stored.replaced(overrides), checkpoint, {})

    @classmethod
    def _filled(
        cls,
        config: VJEPA2Config,
        checkpoint: Checkpoint,
        *,
        device_map: DeviceMap | None,
        max_memory: Mapping[Device, int | str] | None,
        offload_folder: str | os.PathLike[str] | None,
        replace_mismatched: bool,
        fresh_predictor: bool,
        generator: torch.Generator | None,
    ) -> tuple[Self, LoadReport]:
        """A model in evaluation mode that holds the tensors of `checkpoint`."""
        assert config.dtype is None or isinstance(config.dtype, torch.dtype)
        with Skeleton():
            model = cls(config)
        placement = choose_placement(
            model,
            device_map,
            dtype=config.dtype,
            max_memory=max_memory,
            no_split=cls._no_split_modules,
        )
        plan = LoadPlan(
            base_prefix=cls.base_model_prefix,
            dtype=config.dtype,
            place=placement.of,
            replace_mismatched=replace_mismatched,
            fresh_predictor=fresh_predictor,
            # Those of a file on its own came a longer way than a folder's (docs/decisions.md).
            look_at_values=checkpoint.origin is not None,
            make_fresh=lambda names: model.init_missing(names, generator=generator),
        )
        model.load_report = report = load_into(model, checkpoint, plan)
        model.eval()
        if placement.single is None:
            dispatch(
                model,
                placement,
                checkpoint,
                stored_names=report.stored_names,
                offload_folder=offload_folder,
                keep_together=cls._no_split_modules,
            )
        elif device_map is not None:
            vars(model)["hf_device_map"] = {"": placement.single}
        return model, report

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        max_shard_size: str | int = "50GB",
        variant: str | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
    ) -> None:
        """Write `config.json` and `model.safetensors` (or shards and their index).

        Files appear when all of them are complete: an interrupted call leaves the folder's old
        checkpoint intact.

        Args:
            folder: made if needed; files of an earlier save are replaced.
            max_shard_size: bytes or "5GB"; larger checkpoints are split.
            variant: infix of the weights file, such as "fp16".
            push_to_hub: also upload, to `repo_id` or to a repository named like the folder.
            repo_id: `owner/name` for push_to_hub.

        Raises:
            OutputError: the folder cannot be written, or the upload failed.
            ConfigError: an argument is wrong, or fields of the configuration do not fit.
        """
        if repo_id is not None and not push_to_hub:
            raise ConfigError("repo_id has no effect without push_to_hub=True.")
        config = copy.deepcopy(self.config)
        config.architectures = [type(self).__name__]
        config.dtype = self.dtype
        with atomic_folder(folder) as partial:
            config.save_pretrained(partial)
            written = write_weights(
                all_values(self),
                partial,
                max_shard_size=max_shard_size,
                variant=variant,
                num_parameters=self.num_parameters(),
            )
        for path in outdated_weights(Path(folder), written=written, variant=variant):
            path.unlink(missing_ok=True)
        if push_to_hub:
            self.push_to_hub(
                repo_id or Path(folder).name, max_shard_size=max_shard_size, variant=variant
            )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload model",
        max_shard_size: str | int = "50GB",
        variant: str | None = None,
    ) -> str:
        """Upload configuration and weights in one commit and return its address.

        Args:
            repo_id: `owner/name`; made if it does not exist.
            private: visibility of a new repository; None for the owner's default.
            token: access token; None for the stored one.
            revision: branch, made if needed; None for the main one.
            commit_message: first line of the commit.
            max_shard_size: see `save_pretrained`.
            variant: see `save_pretrained`.

        Raises:
            OutputError: no access, no network, or HF_HUB_OFFLINE=1.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, max_shard_size=max_shard_size, variant=variant)
            return upload_folder(
                Path(folder),
                repo_id,
                private=private,
                token=token,
                revision=revision,
                commit_message=commit_message,
            )


def _read_config(
    kind: type[VJEPA2Config], config: VJEPA2Config | str | os.PathLike[str]
) -> VJEPA2Config:
    """The configuration given, or read from where it is said to be."""
    if isinstance(config, VJEPA2Config):
        return config
    check_path("config", config)
    return kind.from_json_file(config) if Path(config).is_file() else kind.from_pretrained(config)


def _one_dtype(
    dtype: str | torch.dtype | None,
    torch_dtype: str | torch.dtype | None,
    stored: str | torch.dtype | None,
) -> torch.dtype | None:
    """The element type asked for under either name, or else the configuration's."""
    asked = {
        resolve_dtype(name)
        for name in (dtype, torch_dtype)
        if name is not None and not (isinstance(name, str) and name == "auto")
    }
    if len(asked) > 1:
        raise ConfigError(
            f"dtype={dtype!r} and torch_dtype={torch_dtype!r} disagree; give only dtype."
        )
    if asked:
        return asked.pop()
    return None if stored is None else resolve_dtype(stored)
