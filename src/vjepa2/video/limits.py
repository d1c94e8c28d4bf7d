"""How much memory, disk and time one video may take.

Videos come from strangers: a file of a few bytes can declare a picture of 16384x16384 pixels, a URL
can send data for ever. Every limit has a default that real videos stay below; whoever knows better
raises it: `VideoReader(path, limits=ReadLimits(max_pixels=16384 * 16384))`.
"""

from dataclasses import dataclass, fields

from vjepa2.errors import ConfigError, described

LONGEST_WAIT_SECONDS = 86_400.0


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """Limits of one reader; all above 0.

    Attributes:
        max_pixels: width x height of a frame (default 8192 x 8192: 192 MiB as RGB).
        max_frames: frames in a video (default 10 million: 46 hours at 60 frames a second).
        max_output_bytes: RGB bytes that one call may return (default 8 GiB: about 1300 frames
            of 1080p). Ask for fewer frames at a time, or raise it.
        max_download_bytes: bytes fetched from a URL, or copied from a stream that cannot seek
            (default 4 GiB). They go to a temporary file.
        connect_timeout_seconds: longest silence of a server before giving up, at most a day.
        download_timeout_seconds: longest time of a whole download.

    Raises:
        ConfigError: a limit is not a positive number.
    """

    max_pixels: int = 8192 * 8192
    max_frames: int = 10_000_000
    max_output_bytes: int = 8 * 2**30
    max_download_bytes: int = 4 * 2**30
    connect_timeout_seconds: float = 20.0
    download_timeout_seconds: float = 1800.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigError(
                    f"ReadLimits.{field.name} must be a number above 0, got {described(value)}."
                )
        if self.connect_timeout_seconds > LONGEST_WAIT_SECONDS:  # sockets cannot wait for ever
            raise ConfigError(
                f"ReadLimits.connect_timeout_seconds must be at most {LONGEST_WAIT_SECONDS:g}, got "
                f"{described(self.connect_timeout_seconds)}."
            )
