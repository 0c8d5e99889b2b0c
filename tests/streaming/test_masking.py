"""No secret of an address is shown, whatever it is made of and whoever says it."""

import pytest

from kinema.streaming.masking import masked_text, masked_url
from kinema.streaming.sources import Address, source_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://camera.lan/live", "rtsp://camera.lan/live"),
        ("rtsp://bob:hunter2@camera.lan:554/live", "rtsp://***@camera.lan:554/live"),
        ("http://bob@camera.lan/", "http://***@camera.lan/"),
        ("http://bob:p@ss/w?r#d@camera.lan/x", "http://***@camera.lan/x"),
        ("http://camera.lan/x?user=bob&token=hunter2&plain", "http://camera.lan/x?user=***&token=***&***"),
        ("https://bob:hunter2@camera.lan/x?key=a@b", "https://***@b"),
        ("http://camera.lan/x#token=hunter2", "http://camera.lan/x#***"),
        ("http://bob:a b@camera.lan/x", "http://***@camera.lan/x"),
        ("holiday.mp4", "holiday.mp4"),
        ("rtsp://cam/user=bob&password=s3cret&channel=1", "rtsp://cam/user=***&password=***&channel=***"),
        ("rtsp://cam/live;token=s3cret/x.sdp", "rtsp://cam/live;token=***/x.sdp"),
        ("rtsp://cam/user=bob_password=s3_cret_channel=1.sdp?x=1", "rtsp://cam/user=***?x=***"),
        ("http://cam/token%3Ds3cret/live", "http://cam/token%3D***/live"),
        ("rtsp:/bob:hunter2@cam/live", "***@cam/live"),
        ("bob:hunter2@cam/live?key=s3cret", "***@cam/live?key=***"),
        ("rtsp:/cam/password=s3cret", "rtsp:/cam/password=***"),
    ],
)
def test_what_is_shown_of_an_address(url, shown):
    assert masked_url(url) == shown


def test_what_others_say_is_masked_too():
    url = "rtsp://bob:h%40nter2@camera.lan/live?token=s3cret&n=1"
    said = f"{url} refused; bob:h%40nter2; h@nter2 is wrong; see tcp://camera.lan?x=9 and HTTP://u:v@camera.lan/; s3cret; bobsled"  # noqa: E501
    told = masked_text(said, url)
    assert "h@nter2" not in told and "h%40nter2" not in told and "s3cret" not in told and "u:v" not in told
    assert (
        "bobsled" in told and " bob:" not in told and "camera.lan" in told and "refused" in told and "x=9" not in told
    )


def test_values_of_a_path_are_masked_in_what_others_say():
    for url in (
        "rtsp://cam/user=bob&password=s3cret&channel=1",
        "rtsp://cam/user=bob_password=s3cret_channel=1.sdp",
        "rtsp://cam/live;token=s3cret",
    ):
        told = masked_text("401 for 'bob' at /user=bob: s3cret is wrong", url)
        assert "s3cret" not in told and "401" in told and ("bob" not in told or "user" not in url)


@pytest.mark.parametrize("word", ["rtsp:/bob:hunter2@cam/live", "bob:hunter2@cam/live", "rtsp:/cam/pwd=hunter2"])
def test_an_address_that_was_typed_wrongly_shows_nothing_either(word):
    with pytest.raises(ValueError, match="there is no file or folder") as told:
        source_of(word)
    assert "hunter2" not in str(told.value) and "bob" not in str(told.value) and "cam" in str(told.value)


def test_an_address_never_shows_itself_whole():
    source = source_of("rtsp://bob:hunter2@camera.lan/live?token=s3cret")
    assert isinstance(source, Address) and source.url.endswith("s3cret")
    assert all("hunter2" not in text and "s3cret" not in text for text in (repr(source), str(source), source.name))
    with pytest.raises(ValueError, match=r"ftp://\*\*\*@x.lan/y is of no known protocol") as told:
        source_of("ftp://bob:hunter2@x.lan/y")
    assert "hunter2" not in str(told.value)
