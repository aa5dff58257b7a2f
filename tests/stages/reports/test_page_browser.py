"""The page of `laat report --format html` in a browser: Chromium without a window, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.attacks.adversarial import AdversarialSet
from stages.attacks.spec import parse_attacks
from stages.evaluation.protocol import Protocol
from stages.files import artifacts
from stages.reports.page.content import groups_of, page_content
from stages.reports.page.render import render_page
from stages.reports.page.request import PageRequest
from stages.reports.records import Model, Report
from stages.reports.report import make_report
from stages.reports.results import Row, summarise_rows
from stages.threat import ThreatModel
from tests.stages.reports.test_plots import right
from tests.stages.reports.test_report import rows_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update"]
IMAGE = "<img src=x onerror=\"document.title = 'executed'\">"
SCRIPT = "</script></style><script>document.title = 'executed'</script>"
HIDDEN = "turned \u202eround {{ 7 * 7 }}"
MODELS = {"plain": 0.2, IMAGE: 0.5, SCRIPT: 0.4}
# text and its background, at least 4.5 to 1 (WCAG 2.2, 1.4.3): the worst of the page, and where
CONTRAST = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const shine = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, at) => {
    const value = rgb[at] / 255;
    return sum + weight * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parts(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  for (const one of document.querySelectorAll("body *")) {
    if (!Array.from(one.childNodes).some((node) => node.nodeType === 3 && node.data.trim())) continue;
    if (one.tagName === "SCRIPT") continue;
    const [a, b] = [parts(getComputedStyle(one).color), behind(one)].map(shine);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, one.tagName + "." + one.className];
  }
  return worst;
}"""


def _report(eps: int) -> Report:
    rows = []
    for group in ("seen", "novel"):
        for model, share in MODELS.items():
            correct = {"clean": right(0.8), "pgd-20": right(share), "margin-pgd-20": right(share / (1 + eps / 8))}
            rows.append(Row(model, group, summarise_rows(rows_of(correct), classes=5, ways=5)))
    return make_report(
        models=[Model(name=name, sha256="ab" * 32, objective="laat", anchors=IMAGE) for name in MODELS],
        data={"source": IMAGE},
        protocol=Protocol().to_record(),
        attacks=parse_attacks(("pgd-20", "margin-pgd-20")),
        threat=ThreatModel(Fraction(eps, 255)),
        seed=0,
        rows=rows,
        notes=[SCRIPT, HIDDEN],
    )


def _saved(path: Path) -> Path:
    """Twelve images of three classes, of which the attack changes those of the first."""
    draw = np.random.default_rng(0)
    clean = torch.from_numpy(draw.integers(20, 230, (12, 3, 8, 8), dtype=np.uint8))
    labels = torch.arange(12) % 3
    moved = torch.from_numpy(draw.choice([-8, 8], clean.shape)) / 255
    threat, classes = ThreatModel(Fraction(8, 255)), (IMAGE, SCRIPT, HIDDEN)
    attack, data = {"name": "pgd-20", "seed": 0}, {"source": "photos", "sha256": None}
    after = torch.where(labels == 0, 1, labels)
    images = (clean / 255 + moved).clamp(0, 1).float()
    saved = AdversarialSet(images, clean, labels, labels, after, classes, "novel", threat, attack, data)
    artifacts.write(saved.to_artifact(), path)
    return path


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    request = PageRequest(adversarial=[_saved(folder / "adversarial.st")])
    groups = groups_of({f"eps{eps}.json": _report(eps) for eps in (4, 8)})
    path = folder / "report.html"
    path.write_bytes(render_page(page_content(groups, {}, request)))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        except playwright.Error as error:
            pytest.skip(f"Chromium does not start: {error}")
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The opened page, which must stay without a message of the console, an error or a request."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    shown, heard, asked = context.new_page(), [], []
    shown.on("console", lambda message: heard.append(message.text))
    shown.on("pageerror", lambda error: heard.append(str(error)))
    shown.on("request", lambda request: asked.append(request))
    shown.goto(address)
    yield shown
    assert [one for one in heard if "Content Security Policy" not in one] == []
    sent = [one.url for one in asked if one.failure != "csp"]
    assert [url for url in sent if not url.startswith("data:image/")] == [address]
    context.close()


def test_names_with_markup_are_text(page: Any) -> None:
    assert page.title() == f"plain, {IMAGE}, {SCRIPT} on {IMAGE} – laat report"
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("script").count() == 1
    assert page.get_by_role("rowheader", name="eps4.json").count() == 6
    assert page.locator("td", has_text=SCRIPT).count() > 0
    assert page.locator("li", has_text="turned \\u202eround {{ 7 * 7 }}").count() > 0
    assert set(page.locator("#images strong").all_inner_texts()) == {IMAGE, SCRIPT, "turned round {{ 7 * 7 }}"}


def test_what_is_injected_does_not_run(page: Any) -> None:
    inject = """() => {
      const script = document.createElement("script");
      script.textContent = "window.executed = true";
      const style = document.createElement("style");
      style.textContent = "body { display: none }";
      document.body.append(script, style);
      document.body.insertAdjacentHTML("beforeend", `<img src="x" onerror="window.executed = true">`);
      return fetch("https://example.org/").then(() => "sent", () => "refused");
    }"""
    assert page.evaluate(inject) == "refused"
    page.wait_for_timeout(100)
    assert page.evaluate("window.executed === undefined")
    assert page.locator("h1").is_visible()


def test_tables_are_sorted_and_filtered_by_keyboard(page: Any) -> None:
    table = page.locator("table[data-sortable]").first
    button = table.get_by_role("button", name="worst")
    head = button.locator("xpath=..")

    def column(cell: int) -> list[str]:
        return [row.locator("th, td").nth(cell).inner_text() for row in table.locator("tbody tr:visible").all()]

    at = table.locator("thead th").count() - 1
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    figures = [float(text.split()[0]) for text in column(at)]
    assert figures == sorted(figures, reverse=True)
    assert len(set(figures)) == 3
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(text.split()[0]) for text in column(at)] == figures[::-1]
    page.keyboard.press("Shift+Tab")
    table.get_by_role("button", name="model").press("Enter")
    assert head.get_attribute("aria-sort") == "none"
    assert column(1) == sorted(column(1), key=str.lower)
    search = page.get_by_label("Filter rows").first
    search.press_sequentially("PLAIN novel")
    assert column(1) == ["plain"]
    assert column(2) == ["novel"]
    search.fill("")
    assert len(column(1)) == 6


def test_images_are_filtered_and_ordered(page: Any) -> None:
    pictures = page.locator(".picture:visible")
    assert pictures.count() == 12
    page.get_by_label("Class").select_option(SCRIPT)
    assert pictures.locator("strong").all_inner_texts() == [SCRIPT] * 4
    page.get_by_label("Outcome").select_option("misclassified under attack")
    assert page.locator(".count").inner_text() == "0 of 12 images"
    page.get_by_label("Class").select_option("")
    assert set(pictures.locator("strong").all_inner_texts()) == {IMAGE}
    page.get_by_label("Outcome").select_option("")
    first = pictures.locator(".key").all_inner_texts()
    page.get_by_label("Order").focus()
    page.keyboard.press("ArrowDown")
    assert pictures.locator(".key").all_inner_texts() == first[::-1]
    assert "15 times as large" in page.locator(".gallery .notes").inner_text()
    assert page.evaluate("Array.from(document.images).every((one) => one.complete && one.naturalWidth > 0 && one.alt)")


@pytest.mark.parametrize("width", [360, 1280, 3840])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_size_in_dark_and_light(page: Any, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") == (scheme == "light")
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where


def test_everything_is_printed(page: Any) -> None:
    page.locator("details").first.locator("summary").click()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == 1
