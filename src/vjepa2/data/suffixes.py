"""Which kind of file a name promises."""

from typing import Literal

from vjepa2.video.picture_folder import SUFFIXES as PICTURE_SUFFIXES

FileKind = Literal["video", "image", "array"]

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts"),
    *(".mts", ".flv", ".wmv", ".ogv", ".3gp", ".vob", ".y4m", ".mxf", ".gif", ".apng"),
)
ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")
LIST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".list")
SHARD_SUFFIX = ".tar"


def suffix_of(name: str) -> str:
    """`.mp4` of `folder/clip.MP4`; empty without one."""
    last = name.rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def file_kind(name: str) -> FileKind | None:
    """The kind that a file's suffix promises, None for any other suffix."""
    suffix = suffix_of(name)
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in PICTURE_SUFFIXES:
        return "image"
    return "array" if suffix in ARRAY_SUFFIXES else None
