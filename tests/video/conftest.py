"""Quiet encoders; the switches are read by the encoding libraries themselves."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def quiet_encoders() -> Iterator[None]:
    """Keep SVT-AV1's report out of the test log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SVT_LOG", "0")
        yield
