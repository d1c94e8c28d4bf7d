"""Notice a JPEG picture that was cut off.

FFmpeg fills the missing part of a cut JPEG with grey and reports nothing. A complete one ends its
picture data with a marker of its own (ITU-T T.81, annex B: SOS starts the data, EOI ends it).
"""

_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"


def jpeg_is_cut(data: bytes) -> bool:
    """True if picture data begins in `data` and never ends.

    Segments before the data are stepped over by their lengths, because a small preview picture in
    them has markers of its own.
    """
    at = 2  # after the start marker
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _START_OF_SCAN:
            return data.find(_END_OF_IMAGE, at) < 0
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True
