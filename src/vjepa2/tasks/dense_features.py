"""Features of labelled pictures from a frozen encoder, computed once per picture, size and side.

A picture may be shown at several sizes and mirrored: few enough ways that their features can be
kept. What does not fit into the cache is computed again, with the same result.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import DtypeError
from vjepa2.models.dense import FeatureSource
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.still_images import image_maps
from vjepa2.tasks.dense_sets import DenseItem, DenseSet
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.whole_frames import whole_frame_pixels


class DenseFeatures:
    """Items of a set with their features.

    Args:
        encoder: frozen; it is run in evaluation mode without gradients.
        processor: normalises the pixels.
        source: which of the encoder's features.
        data: pictures and labels.
        cache_bytes: of features and labels kept in memory; 0 keeps none.
    """

    def __init__(
        self,
        encoder: VJEPA2Encoder,
        processor: VJEPA2VideoProcessor,
        source: FeatureSource,
        data: DenseSet,
        *,
        cache_bytes: int,
    ) -> None:
        self.encoder, self.processor, self.source = encoder, processor, source
        self.data = data
        self._room = cache_bytes
        self._kept: dict[tuple[int, int, bool], tuple[Tensor, Tensor]] = {}

    def get(
        self, index: int, *, short_side: int, mirrored: bool = False
    ) -> tuple[Float[Tensor, "D h w"], Tensor]:
        """Features and labels of a picture.

        Args:
            index: of the picture.
            short_side: of the picture as the encoder sees it, pixels, about.
            mirrored: left and right exchanged, in both.

        Raises:
            DtypeError: the encoder gives NaN or infinity.
        """
        key = (index, short_side, mirrored)
        if key in self._kept:
            return self._kept[key]
        item = self.data[index]
        features = self._computed(item, short_side, mirrored).cpu()
        target = item.target.flip(-1) if mirrored else item.target
        size = features.nbytes + target.nbytes
        # No item makes room for another: in passes over all of them that would keep none.
        if size <= self._room:
            self._room -= size
            self._kept[key] = (features, target)
        return features, target

    @torch.no_grad()
    def _computed(self, item: DenseItem, short_side: int, mirrored: bool) -> Tensor:
        frame = item.frame.flip(-1) if mirrored else item.frame
        pixels = whole_frame_pixels(
            frame,
            processor=self.processor,
            short_side=short_side,
            multiple=self.source.patch_size,
        )
        device = self.encoder.embeddings.patch_embeddings.proj.weight.device
        features = image_maps(
            self.encoder,
            pixels.to(device),
            num_frames=self.source.num_frames,
            output_levels=self.source.levels,
        )[0]
        if not bool(features.isfinite().all()):
            raise DtypeError(
                f"The encoder gave NaN or infinity for {item.name}. Its weights may be damaged, or "
                "too large for its element type: load it as float32."
            )
        return features
