"""Draw figures of a page as PNGs with Chromium, for readers who do not open the page."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

CHROMIUM = Path("/usr/bin/chromium")
DRAWN = "html[data-plots=drawn]"


def take_pictures(page: Path, folder: Path, places: Sequence[str]) -> None:
    """One PNG per place, an element's id, once the page says in `data-plots` that all is drawn; none where there is no
    Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return print("playwright is not installed: no pictures")
    if not CHROMIUM.exists():
        return print(f"{CHROMIUM} is not there: no pictures")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1120, "height": 900})
        tab.set_default_timeout(120_000)
        tab.goto(page.resolve().as_uri())
        tab.wait_for_selector(DRAWN, state="attached")
        for place in places:
            tab.locator(f"[id='{place}']").screenshot(path=folder / f"{place}.png")
        browser.close()


def draw_pictures(figures: Mapping[str, go.Figure], folder: Path) -> None:
    """One PNG per figure, under its name."""
    parts = [figure.to_html(full_html=False, include_plotlyjs=False, div_id=name) for name, figure in figures.items()]
    done = "<script>document.documentElement.dataset.plots = 'drawn'</script>"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        page = Path(temporary) / "page.html"
        text = "\n".join(["<!doctype html><meta charset='utf-8'>", f"<script>{get_plotlyjs()}</script>", *parts, done])
        page.write_text(text, encoding="utf-8")
        take_pictures(page, folder, list(figures))
