"""Numbers that the authors published for their models and probes, each with its source.

They were not measured here. Where a paper's table could not be read (V-JEPA 2.1 ViT-B), nothing is
listed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PAPER_2 = "arXiv:2506.09985"
PAPER_2_1 = "arXiv:2603.14482"
README = "README of github.com/facebookresearch/vjepa2"


@dataclass(frozen=True)
class Result:
    """One published number.

    Attributes:
        benchmark: data set, with the part of it that was measured.
        metric: what the number is, with its unit or direction where they are not obvious.
        value: the number.
        source: paper or page that says so.
    """

    benchmark: str
    metric: str
    value: float
    source: str


_TOP1 = "top-1 accuracy, %"
_RECALL = "mean class recall@5, %"
_MIOU = "mIoU, %"
_TRACKING = "J&F, %"
_RMSE = "depth RMSE, lower is better"
_SUCCESS = "success, %, mean of two labs"

_METRICS = {
    "mean of the next six": _TOP1,
    "SSv2": _TOP1,
    "Diving48": _TOP1,
    "Jester": _TOP1,
    "K400": _TOP1,
    "COIN": _TOP1,
    "IN1K": _TOP1,
    "EK100 verb": _RECALL,
    "EK100 noun": _RECALL,
    "EK100 action": _RECALL,
    "NYUv2": _RMSE,
    "KITTI": _RMSE,
    "ADE20K": _MIOU,
    "Cityscapes": _MIOU,
    "VOC": _MIOU,
    "DAVIS": _TRACKING,
    "YouTube-VOS": _TRACKING,
    "Ego4D STA": "mAP All",
    "robot: reach": _SUCCESS,
    "robot: grasp cup": _SUCCESS,
    "robot: grasp box": _SUCCESS,
    "robot: reach with cup": _SUCCESS,
    "robot: reach with box": _SUCCESS,
    "robot: pick and place cup": _SUCCESS,
    "robot: pick and place box": _SUCCESS,
}
_NAMES = list(_METRICS)
_VIDEO, _EK100, _ROBOT = _NAMES[:7], _NAMES[7:10], _NAMES[18:]
_TABLE_2_1 = ["SSv2", "Diving48", "K400", "IN1K", *_EK100, *_NAMES[10:18]]


def _row(source: str, names: list[str], *values: float) -> tuple[Result, ...]:
    return tuple(
        Result(name, _METRICS[name], value, source)
        for name, value in zip(names, values, strict=True)
    )


_TABLE_2 = [*_VIDEO, *_EK100]
_DISTILLED = ["SSv2", "ADE20K", "KITTI", "DAVIS"]

RESULTS: Mapping[str, tuple[Result, ...]] = MappingProxyType({
    "vjepa2-vitl": _row(PAPER_2, _TABLE_2,
        86.0, 73.7, 89.0, 97.6, 85.1, 86.8, 83.5, 57.8, 53.8, 32.7),
    "vjepa2-vith": _row(PAPER_2, _TABLE_2,
        86.4, 74.0, 89.8, 97.7, 85.3, 87.9, 83.8, 59.2, 54.6, 36.5),
    "vjepa2-vitg": _row(PAPER_2, _TABLE_2,
        87.5, 75.3, 90.1, 97.7, 86.6, 90.7, 84.6, 61.2, 55.7, 38.0),
    "vjepa2-vitg-384": _row(PAPER_2, _TABLE_2,
        88.2, 77.3, 90.2, 97.8, 87.3, 91.1, 85.1, 63.6, 57.1, 39.7),
    "vjepa2-ac-vitg": _row(PAPER_2, _ROBOT, 100, 65, 25, 75, 75, 80, 65),
    "vjepa2.1-vitl-384": _row(PAPER_2_1, _DISTILLED, 76.5, 46.7, 2.490, 68.7),
    "vjepa2.1-vitg-384": _row(PAPER_2_1, _TABLE_2_1,
        76.9, 89.0, 87.0, 84.8, 63.6, 56.2, 38.4, 0.350, 2.601, 47.8, 71.8, 84.7, 68.1, 72.3, 6.75),
    "vjepa2.1-vitG-384": _row(PAPER_2_1, _TABLE_2_1,
        77.7, 89.2, 87.7, 85.5, 64.3, 59.9, 40.8, 0.307, 2.461, 47.9, 73.5, 85.0, 69.0, 72.7, 7.71),
    "vjepa2-vitl-ssv2": _row(README, ["SSv2"], 73.7),
    "vjepa2-vitg-384-ssv2": _row(README, ["SSv2"], 77.3),
    "vjepa2-vitl-diving48": _row(README, ["Diving48"], 89.0),
    "vjepa2-vitg-384-diving48": _row(README, ["Diving48"], 90.2),
    "vjepa2-vitl-ek100": _row(PAPER_2, _EK100, 57.8, 53.8, 32.7),
    "vjepa2-vitg-384-ek100": _row(PAPER_2, _EK100, 63.6, 57.1, 39.7),
})  # fmt: skip
"""By name of the preset."""
