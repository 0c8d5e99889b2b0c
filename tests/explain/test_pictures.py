"""Pictures: what is drawn where."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from kinema.explain.calibration import Factors, variation
from kinema.explain.pictures import Strip, draw_factors, draw_film, draw_variation, short_name


def picture_of(figure, row=0):
    return np.asarray(figure.axes[row].images[0].get_array())


def test_frames_stand_side_by_side_and_heat_covers_the_hot_places_alone(tmp_path):
    frames = torch.randint(0, 256, (3, 2, 8, 10), dtype=torch.uint8)
    heat = torch.zeros(2, 8, 10)
    heat[1, 3, 4] = 1
    figure = draw_film([Strip(frames, label="plain"), Strip(frames, heat, "hot")], heat_label="heat", strength=1.0)
    assert isinstance(figure, Figure)
    plain, hot = picture_of(figure), picture_of(figure, 1)
    assert plain.shape == (8, 2 * 12, 3)
    assert np.allclose(plain[:, :10], frames[:, 0].permute(1, 2, 0) / 255)
    assert np.allclose(plain[:, 12:22], frames[:, 1].permute(1, 2, 0) / 255)
    assert np.allclose(plain[:, 10:12], 1)
    assert np.allclose(hot[3, 12 + 4], colormaps["inferno"](1.0)[:3])
    hot = hot.copy()
    hot[3, 12 + 4] = plain[3, 12 + 4]
    assert np.allclose(hot, plain)
    figure.savefig(tmp_path / "film.png")
    assert (tmp_path / "film.png").stat().st_size > 3000


def test_floats_and_grey_and_rows_of_unequal_length():
    grey = torch.full((1, 2, 4, 4), 0.25)
    figure = draw_film([Strip(grey), Strip(torch.rand(3, 4, 4, 4))])
    assert np.allclose(picture_of(figure)[:, :4], 0.25)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim(), "frames of both rows are equally large"
    labels = [text.get_text() for text in figure.axes[1].get_xticklabels()]
    assert labels == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("strips", "told"),
    [
        ([], "no row to draw"),
        ([Strip(torch.rand(3, 4, 4))], r"shape \(3, 4, 4\)"),
        ([Strip(torch.rand(2, 4, 8, 8))], "3 channels or 1"),
        ([Strip(torch.rand(3, 4, 8, 8), torch.rand(4, 2, 2), "it")], "the heat of 'it' has shape"),
    ],
)
def test_what_cannot_be_drawn_is_refused(strips, told):
    with pytest.raises(ValueError, match=told):
        draw_film(strips)


def test_factors_over_time(tmp_path):
    values = torch.randn(2, 3, 5)
    factors = [Factors(f"backbone.trunk.layer{n}.0.conv2.operator", "cin", values) for n in range(5)]
    figure = draw_factors(factors, clip=1)
    first = figure.axes[0]
    lines = [line.get_ydata() for line in first.lines]
    for channel in range(3):
        assert np.allclose(lines[channel], values[1, channel])
    assert np.allclose(lines[3], values[1].mean(dim=0))
    assert first.get_title() == "layer0.0.conv2\n3 input channels"
    figure.savefig(tmp_path / "factors.png")
    with pytest.raises(ValueError, match="no factors to draw"):
        draw_factors([])


def test_variation_bars(tmp_path):
    summary = variation(
        [Factors("layer1", "cin", torch.randn(1, 3, 5)), Factors("layer2", "bias", torch.ones(1, 3, 5))]
    )
    figure = draw_variation(summary)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert np.allclose(widths, [summary[0].over_time, 0, summary[0].over_channels, 0])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["layer1", "layer2, bias"]
    figure.savefig(tmp_path / "variation.png")
    with pytest.raises(ValueError, match="no variation to draw"):
        draw_variation([])


def test_short_names():
    assert short_name("backbone.trunk.layer4.0.conv2.operator") == "layer4.0.conv2"
    assert short_name("model.layer1.0.conv1.mixer.operator") == "layer1.0.conv1"
