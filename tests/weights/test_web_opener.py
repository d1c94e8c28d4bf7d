"""Redirects that need TLS to come up; the others are in test_transfer.py."""

import email.message
import io
import urllib.request

import pytest

from vjepa2.weights.web_opener import RedirectRefused, _WebOnlyRedirects, web_opener


def redirected(source: str, target: str) -> urllib.request.Request | None:
    """What follows when the server at `source` points to `target`."""
    return _WebOnlyRedirects().redirect_request(
        urllib.request.Request(source, headers={"Range": "bytes=5-"}),
        io.BytesIO(),
        302,
        "Found",
        email.message.Message(),
        target,
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [("http://a/x", "http://b/y"), ("http://a/x", "https://b/y"), ("https://a/x", "https://b/y")],
)
def test_redirects_that_are_followed(source: str, target: str) -> None:
    request = redirected(source, target)
    assert request is not None
    assert request.full_url == target
    assert request.headers == {"Range": "bytes=5-"}


@pytest.mark.parametrize(
    ("source", "target"),
    [("https://a/x", "http://a/x"), ("https://a/x", "ftp://a/x"), ("http://a/x", "file:///a")],
)
def test_redirects_that_are_refused(source: str, target: str) -> None:
    with pytest.raises(RedirectRefused, match=target):
        redirected(source, target)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_other_addresses_cannot_be_opened(url: str) -> None:
    assert web_opener(headers_within_seconds=1).open(url) is None
