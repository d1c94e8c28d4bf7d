"""Where the features of a probe run come from: caches that are filled first, or the encoder."""

import os
from pathlib import Path

from vjepa2.data.views import ViewConfig
from vjepa2.tasks.pretrain_folder import BAD_FILES_NAME, add_bad_files
from vjepa2.tasks.probe_cache import GIB, FeatureCache, check_disk
from vjepa2.tasks.probe_config import AttentiveProbeConfig
from vjepa2.tasks.probe_data import ProbeData
from vjepa2.tasks.probe_features import (
    CachedFeatures,
    EncodedFeatures,
    FeatureSource,
    FrozenEncoder,
    Reading,
    fill_cache,
    open_cache,
)

FEATURES_NAME = "features"


def make_sources(
    config: AttentiveProbeConfig,
    data: ProbeData,
    encoder: FrozenEncoder,
    *,
    run: Path,
    weights: str,
    quiet: bool = False,
) -> dict[str, FeatureSource]:
    """Open the features of every set, and encode what is to be read from the disk and is not there.

    Args:
        config: of the run.
        data: its labelled videos.
        encoder: frozen.
        run: folder of the run.
        weights: mark of the encoder's weights.
        quiet: nothing on stderr.

    Raises:
        ConfigError: the caches hold other features, or need more disk than allowed; nothing was
            encoded yet.
        BadFilesError: too many files cannot be read.
        InputError: features are NaN or infinite.
        OutputError: the disk is full.
    """
    folder = Path(os.path.abspath(config.cache.folder or run / FEATURES_NAME))  # noqa: PTH100
    readings = {name: _reading(config, data, name) for name in data.sets}
    caches: dict[str, list[FeatureCache]] = {}
    for name, reading in readings.items():
        if not (config.train_is_cached if name == "train" else config.val_is_cached):
            continue
        versions = max(1, config.cache.versions) if name == "train" else 1
        caches[name] = [
            open_cache(
                folder / (name if versions == 1 else f"{name}-{version}"),
                reading,
                encoder,
                version=version,
                batch_size=config.encode_batch,
                dtype=config.cache.dtype,
                weights=weights,
            )
            for version in range(versions)
        ]
    check_disk(
        [cache for found in caches.values() for cache in found],
        max_bytes=int(config.cache.max_gb * GIB),
    )
    sources: dict[str, FeatureSource] = {}
    for name, reading in readings.items():
        size = config.batch_size if name == "train" else config.encode_batch
        if name not in caches:
            sources[name] = EncodedFeatures(
                reading, encoder, batch_size=size, num_epochs=config.schedule.epochs
            )
            continue
        for version, cache in enumerate(caches[name]):
            bad = fill_cache(
                cache,
                reading,
                encoder,
                version=version,
                quiet=quiet,
                description=f"Encode {name}",
            )
            add_bad_files(run / BAD_FILES_NAME, bad)
        sources[name] = CachedFeatures(reading, caches[name], batch_size=size)
    return sources


def _reading(config: AttentiveProbeConfig, data: ProbeData, name: str) -> Reading:
    is_training = name == "train"
    views = config.views
    if is_training:
        # Chance in training is that of `augment`; without it every epoch sees the same.
        views = ViewConfig(**{**views.model_dump(), "num_views": 1, "moment": "middle"})
    return Reading(
        labelled=data.sets[name],
        labels=data.labels(name),
        views=views,
        train=config.augment if is_training else None,
        shuffle=is_training,
        seed=config.seed,
        workers=config.data.workers,
        prefetch=config.data.prefetch,
        max_bad_share=config.data.max_bad_share,
    )
