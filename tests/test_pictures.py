"""The pictures of the tutorial are those that the script draws, and can be read."""

import importlib.util
import itertools
from pathlib import Path

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from programs import run_here
from support import ROOT

FOLDER = ROOT / "docs" / "pictures"
specification = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
draw = importlib.util.module_from_spec(specification)
specification.loader.exec_module(draw)


def test_the_script_draws_what_is_committed(tmp_path: Path) -> None:
    assert run_here(draw.main, "--folder", tmp_path).code == 0
    drawn = {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()}
    assert drawn.keys() == {f"{name}.svg" for name in draw.PICTURES}
    for name, svg in drawn.items():
        assert svg == (FOLDER / name).read_text("utf-8"), f"{name} is old; run: python docs/pictures/draw.py"


@pytest.mark.parametrize("name", draw.PICTURES)
def test_text_is_large_enough_and_overlaps_nothing(name: str) -> None:
    with matplotlib.rc_context(draw.SETTINGS):
        figure = draw.PICTURES[name]().figure
        renderer = FigureCanvasAgg(figure).get_renderer()
        texts = [text for text in figure.findobj(Text) if text.get_text()]
        places = [(text, text.get_window_extent(renderer)) for text in texts]
    assert len(texts) > 10
    for text, place in places:
        assert text.get_size() >= 11 * draw.POINT, text
        assert Bbox.intersection(place, figure.bbox).bounds == place.bounds, f"{text} is cut off"
    for (one, there), (other, here) in itertools.combinations(places, 2):
        assert not Bbox.intersection(there, here), (one, other)


def test_windows_of_the_picture() -> None:
    """What the picture of the windows shows, worked out by hand."""
    texts = {text.get_text() for text in draw.windows().figure.findobj(Text)}
    assert {"to 2", "be 2", "or 1", "not 1", "that 1", "is 1", "still open: no rows yet"} <= texts
    assert not {"late 1", "the 1", "question 1"} & texts
