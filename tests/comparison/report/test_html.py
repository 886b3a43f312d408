"""The HTML report: one file, that a real browser shows without error and without any request."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from srtoolbox.comparison.report.write import write_report

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

# Before all else on the page: whatever goes wrong is written down.
_TRAP = """<script>
const faults = [];
addEventListener("error", (e) => faults.push("error: " + (e.message || e.target)), true);
addEventListener("unhandledrejection", (e) => faults.push("rejected: " + e.reason));
addEventListener("securitypolicyviolation", (e) => faults.push("blocked: " + e.blockedURI));
console.error = console.warn = (...words) => faults.push("console: " + words.join(" "));
</script>"""

# After all else: what a reader does, and what is then to be seen.
_READER = """<script>
const seen = {};
const all = (selector) => [...document.querySelectorAll(selector)];
const shown = (element) => element.checkVisibility();
const table = document.querySelector("table");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const head = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.includes("PSNR"));
const button = table.tHead.rows[0].cells[head].querySelector("button");
seen.before = names();
button.click();
seen.best_first = names();
button.click();
seen.worst_first = names();
seen.sorted_by = table.tHead.rows[0].cells[head].getAttribute("aria-sort");
table.tHead.rows[0].cells[0].querySelector("button").click();
seen.by_name = names();

const slider = all(".stage input").find(shown);
slider.value = 20;
slider.dispatchEvent(new Event("input"));
const over = slider.parentElement.querySelector("img.over");
seen.clip = getComputedStyle(over).clipPath;
seen.stage_width = over.clientWidth;
seen.left = over.alt;
const [picture, left, right] = all("#before-and-after select");
const choose = (select, value) => {
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
choose(left, "GT");
choose(right, "Late");
choose(picture, picture.options[1].value);
const stages = all(".stage").filter(shown);
seen.stages = stages.map((stage) => stage.dataset.picture);
seen.versions = all(".stage img").filter(shown).map((image) => image.alt).sort();

const select = (name) => document.querySelector(`.filters select[name=${name}]`);
const heads = () => all("table:first-of-type thead th").filter(shown).map((th) => th.textContent);
choose(select("dataset"), "images");
seen.filtered = heads().map((title) => title.replace(/\u00a0/g, " "));
choose(select("protocol"), "rgb");
seen.titles = all("h3, summary").filter(shown).map((element) => element.textContent);
choose(select("dataset"), "");
choose(select("protocol"), "");

seen.images = document.images.length;
seen.width = [document.documentElement.scrollWidth, innerWidth];
addEventListener("load", () => {
  seen.empty = [...document.images].filter((image) => !image.hidden && !image.naturalWidth).length;
  seen.requests = performance.getEntriesByType("resource")
    .map((entry) => entry.name).filter((name) => !name.startsWith("data:"));
  seen.faults = faults;
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
</script>"""


@pytest.fixture(scope="module")
def page(rich_original: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    study = shutil.copytree(rich_original, tmp_path_factory.mktemp("html") / "rich")
    write_report(study, ["html"])
    return (study / "report.html").read_text()


def read_in_browser(page: str, folder: Path, width: int) -> dict:
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser is installed ({', '.join(_BROWSERS)})")
    path = folder / "read.html"
    path.write_text(
        page.replace("<head>", f"<head>{_TRAP}").replace("</body>", f"{_READER}</body>")
    )
    done = subprocess.run(
        [
            *(browser, *_FLAGS, f"--user-data-dir={folder / 'profile'}"),
            *(f"--window-size={width},900", "--enable-logging=stderr", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_it(page: str, tmp_path: Path, width: int) -> None:
    seen = read_in_browser(page, tmp_path, width)
    assert seen["faults"] == [] and seen["requests"] == [] and seen["empty"] == 0
    assert seen["images"] > 30
    assert seen["width"][0] <= seen["width"][1]  # only tables scroll sideways, not the page

    order = ["Bicubic", "A_B & <i>C</i>", "Net|D$", "Late †", "Broken ✗", "DUF (published)"]
    assert seen["before"] == order
    best = ["DUF (published)", "Late †", "Net|D$", "A_B & <i>C</i>", "Bicubic", "Broken ✗"]
    assert seen["best_first"] == best
    assert seen["worst_first"] == [*best[-2::-1], "Broken ✗"]  # without a number always last
    assert seen["sorted_by"] == "ascending"
    assert seen["by_name"] == sorted(order, key=str.lower)

    assert seen["left"] == "LR"
    cut = re.fullmatch(r"inset\(0px calc\(80%\) 0px 0px\)|inset\(0px 80% 0px 0px\)", seen["clip"])
    assert cut, seen["clip"]
    assert seen["stages"] == ["clips: 001/02"]
    assert seen["versions"] == ["GT", "Late"]

    assert not any(head.startswith("clips") for head in seen["filtered"])
    assert "images PSNR (dB) ↑" in seen["filtered"]
    assert "images: PSNR (dB) ↑ with intervals, protocol rgb" in seen["titles"]
    assert not any("duf-y" in title or "clips" in title for title in seen["titles"])


class _Parts(HTMLParser):
    """The addresses, open tags, anchors, attributes and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.anchors: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.texts: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        facts = dict(attributes)
        self.addresses += [facts[name] or "" for name in ("src", "href", "action") if name in facts]
        self.anchors.add(facts.get("id") or "")
        for name, value in attributes:
            self.attributes.setdefault(name, set()).add(value or "")
        if tag not in ("meta", "link", "img", "hr", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.add(data.strip())


def test_nothing_is_fetched_and_every_tag_is_closed(page: str) -> None:
    parts = _Parts()
    parts.feed(page)
    assert parts.open == []
    links = {address[1:] for address in parts.addresses if address.startswith("#")}
    assert links and links <= parts.anchors
    assert all(address.startswith(("data:", "#")) for address in parts.addresses)
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_names_are_text_and_never_markup(page: str) -> None:
    assert "<i>C</i>" not in page and "A_B &amp; &lt;i&gt;C&lt;/i&gt;" in page
    assert "<title>rich &lt;study&gt; (×4)</title>" in page


@pytest.mark.slow
def test_no_name_gets_out_of_its_attribute(rich_study: Path) -> None:
    method, dataset, key = (f"""{name}'"><img onerror="{name}()">""" for name in "mdk")
    for name in ("study.json", "results.jsonl"):
        content = (rich_study / name).read_text()
        for old, new in (("Late", method), ("images", dataset), ("im_0", key)):
            content = content.replace(f'"{old}"', json.dumps(new))
        (rich_study / name).write_text(content)
    study = json.loads((rich_study / "study.json").read_text())
    study["other_protocols"][0]["average"] = "images"  # this word is not the dataset
    (rich_study / "study.json").write_text(json.dumps(study))
    (rich_study / "images" / "images").rename(rich_study / "images" / dataset)
    for path in (rich_study / "images").rglob("im_0*.png"):
        path.rename(path.with_name(path.name.replace("im_0", key)))
    write_report(rich_study, ["html"])
    page = (rich_study / "report.html").read_text()
    parts = _Parts()
    parts.feed(page)
    assert parts.open == [] and not any(name.startswith("on") for name in parts.attributes)
    assert {method, key, f"{dataset}: {key}"} <= parts.texts
    assert {method, key} <= parts.attributes["alt"]
    assert dataset in parts.attributes["data-dataset"]
    assert f"{dataset}: {key}" in parts.attributes["data-picture"]


def test_the_protocol_stands_under_every_table(page: str) -> None:
    tables = page.split("<table>")[1:]
    assert len(tables) == 22
    for table in tables:
        notes = table[table.index('<ul class="notes">') : table.index("</ul>")]
        assert len(re.findall(r"Protocol (?:duf-y \(duf-y0123\)|rgb \(rgb0123\))\.", notes)) == 1


def test_best_second_alike_and_published_are_told_apart(page: str) -> None:
    row = re.search(r'<tr class="">(<th scope="row">Late †.*?)</tr>', page)[1]
    assert row.count("<b>") == 4
    assert re.search(r'<tr class="published"><th scope="row">DUF \(published\)</th>', page)
    assert "<u>" in re.search(r'<tr class=""><th scope="row">Net\|D\$(.*?)</tr>', page)[1]
