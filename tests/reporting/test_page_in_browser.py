"""The page as a reader has it: in a real browser, offline. Needs chromium or chrome on the PATH."""

import re
from io import BytesIO

import numpy as np
import pytest
from chromium import BINARY, Chromium
from conftest import run_command
from fake_evaluations import write_evaluation
from fake_explanations import write_explanation
from fake_runs import write_runs
from fake_sweeps import write_sweep
from matplotlib import image
from test_embeddings import embedded, features_of

from neuro_ssl.reporting.page import ORDER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no chromium or chrome on the PATH"),
]
COMPLAINTS = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
NUMBER = r"\s*-?\d+(\.\d+)?(e[-+]?\d+)?"
PHONE = {"width": 390, "height": 844, "mobile": True}
PLACE = "document.querySelector('.viewer .place').textContent"
UNFOLD = "document.querySelectorAll('details').forEach(one => one.open = true)"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of all that there can be: runs of two seeds, an evaluation, a sweep, embedded features, explanations."""
    runs = tmp_path_factory.mktemp("runs")
    write_runs(runs, seeds=(0, 1))
    write_evaluation(runs)
    write_sweep(runs, tested=False)
    for method, signed in {"integrated_gradients": True, "grad_cam": False}.items():
        write_explanation(runs, method, signed=signed, grid="4mm")
    write_explanation(runs, run="probe-sex-1a2b3c4d", output="logit of sex = M", unit="logit")
    features = embedded(runs / "ours.parquet", features_of(0))
    run_command("report", f"runs_dir={runs}", f"output={runs / 'report'}", "figures=[svg]", f"embeddings=[{features}]")
    return runs / "report" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    browser.run(UNFOLD)
    yield browser
    complaints = [(kind, what) for kind, what in browser.events if kind in COMPLAINTS and complains(kind, what)]
    assert complaints == []
    asked = [what["request"]["url"] for kind, what in browser.events if kind == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert {url for url in asked if url.startswith("file:")} == {page.as_uri()}


def complains(kind, what):
    level = what.get("type") or what.get("entry", {}).get("level")
    return kind == "Runtime.exceptionThrown" or level in ("error", "warning", "assert")


def test_the_checks_would_notice(browser, tmp_path):
    """An error, a warning and a request that would leave are seen by what `opened` looks at."""
    file = tmp_path / "bad.html"
    file.write_text("<script>console.warn('w'); fetch('https://example.org/x').catch(() => {}); undefined.x</script>")
    before = len(browser.events)
    browser.open(file)
    browser.run("new Promise(done => setTimeout(done, 300))")
    events = browser.events[before:]
    del browser.events[before:]
    assert {kind for kind, what in events if kind in COMPLAINTS and complains(kind, what)} == COMPLAINTS
    assert any(what["request"]["url"].startswith("https:") for kind, what in events if "WillBeSent" in kind)


def test_every_section_is_there(opened):
    sections = opened.run("[...document.querySelectorAll('main > section')].map(section => section.id)")
    assert sections == list(ORDER)


def test_every_figure_is_there(opened, page):
    assert page.stat().st_size < 15e6
    figures = opened.run("""[...document.querySelectorAll("figure")].map(figure => {
      const shown = figure.querySelector("svg, img"), box = shown?.getBoundingClientRect();
      return {id: figure.id, width: box?.width, height: box?.height, marks: shown?.querySelectorAll("path").length,
              pixels: shown?.naturalWidth, caption: figure.querySelector("figcaption")?.textContent};
    })""")
    files = {file.stem for file in (page.parent / "figures").iterdir()}
    assert {figure["id"] for figure in figures} == files
    for figure in figures:
        assert figure["width"] > 100 and figure["height"] > 50, figure
        assert figure["marks"] > 10 or figure["pixels"] > 100, figure
        assert figure["caption"].strip(), figure


def test_tables_sort_both_ways(opened):
    cells = """[...document.querySelectorAll("table.sortable")].map(table => [...table.tBodies[0].rows].map(
      row => [...row.cells].map(cell => cell.dataset.value ?? cell.textContent)))"""
    moved = 0
    for i, before in enumerate(opened.run(cells)):
        for column in range(len(before[0])):
            orders = []
            for _ in range(2):
                table = f"document.querySelectorAll('table.sortable')[{i}]"
                opened.run(f"{table}.querySelectorAll('thead button')[{column}].click()")
                after = opened.run(cells)[i]
                assert sorted(map(tuple, after)) == sorted(map(tuple, before))
                orders.append([row[column] for row in after])
            numbers = [[float(m[0]) for x in order if (m := re.match(NUMBER, x))] for order in orders]
            if len(numbers[0]) > len(before) / 2:
                assert numbers == [sorted(numbers[0]), sorted(numbers[0], reverse=True)]
            else:
                assert orders[0] == orders[1][::-1] or len(set(orders[0])) < len(orders[0])
            moved += orders[0] != orders[1]
    assert moved >= 6  # the models and both scores of two tasks


def test_pointing_at_a_mark_says_what_it_is(opened):
    mark = "document.querySelector('figure .mark[data-tip]')"
    opened.run(f"{mark}.scrollIntoView({{block: 'center'}})")
    opened.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # scrolling hides tips
    x, y = opened.run(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({mark}.getBoundingClientRect())")
    assert opened.run("document.getElementById('tip').hidden")
    for step in range(20):
        opened.mouse(x + step % 2, y, "mouseMoved")
        if not opened.run("document.getElementById('tip').hidden"):
            break
    assert opened.run("document.getElementById('tip').textContent") == opened.run(f"{mark}.dataset.tip")


def open_viewer(browser, number=0):
    browser.run(f"document.querySelectorAll('.viewer')[{number}].querySelector('button').click()")
    browser.wait_for(f"document.querySelectorAll('.viewer')[{number}].dataset.ready")


def choose(browser, name, value):
    browser.run(
        f"(one => {{ one.value = {value!r}; one.dispatchEvent(new Event('change')); "
        f"one.dispatchEvent(new Event('input')) }})(document.querySelector('.viewer [name={name}]'))"
    )


def drawn(browser):
    """(height, width, 3) of the canvas, once it stays the same."""
    browser.run("document.querySelector('.viewer canvas').scrollIntoView({block: 'center'})")
    last = None
    for _ in range(20):
        browser.run("new Promise(done => setTimeout(done, 250))")
        picture = image.imread(BytesIO(browser.picture(clip=clip(browser))))[..., :3]
        if last is not None and np.array_equal(picture, last):
            return picture
        last = picture
    raise AssertionError("the canvas never came to rest")


def clip(browser):
    """The canvas in the coordinates of the document, as screenshots want it."""
    return browser.run("""(box => ({x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height,
      scale: 1}))(document.querySelector(".viewer canvas").getBoundingClientRect())""")


def of_colour(picture, channel):
    """Where a channel stands out: the middle of those pixels as shares of the height and width, and how many."""
    others = np.delete(picture, channel, axis=-1).max(axis=-1)
    y, x = np.nonzero(picture[..., channel] > others + 0.2)
    return y.mean() / picture.shape[0], x.mean() / picture.shape[1], len(x)


def test_the_viewer_shows_the_map_on_its_side(opened):
    open_viewer(opened)
    assert np.ptp(drawn(opened)) > 0.5  # slices and head
    assert re.match(r"\d+ mm left, \d+ mm posterior, \d+ mm inferior", opened.run(PLACE))
    choose(opened, "view", "1")  # coronal
    choose(opened, "opacity", "1")
    coronal = drawn(opened)
    red_y, red_x, n_red = of_colour(coronal, 0)
    blue_y, blue_x, _ = of_colour(coronal, 2)
    assert n_red > 50
    assert 0.25 < red_x < 0.5 and 0.25 < blue_x < 0.5  # the subject's left is on the left
    assert blue_y < red_y  # what lowers the age is above what raises it
    choose(opened, "shown", "0")
    assert of_colour(drawn(opened), 0)[2] < n_red / 2
    choose(opened, "shown", "3")
    choose(opened, "sides", "1")
    assert 0.5 < of_colour(drawn(opened), 0)[1] < 0.75
    choose(opened, "opacity", "0")
    grey = drawn(opened)
    assert np.abs(grey - grey.mean(axis=-1, keepdims=True)).max(axis=-1).mean() < 0.01


def test_methods_change_and_one_viewer_is_open_at_a_time(opened):
    open_viewer(opened, 0)
    signed = opened.run("document.querySelector('.viewer .low').textContent")
    assert signed.startswith("lowers: −")
    choose(opened, "map", "1")
    opened.wait_for("document.querySelector('.viewer .low').textContent === '0'")
    opened.wait_for("document.querySelector('.viewer .high').textContent.endsWith('and above')")
    inside = of_colour(drawn(opened), 1)[2]  # viridis: green
    assert inside > 20
    opened.run("document.querySelector('.viewer [name=outside]').click()")
    assert of_colour(drawn(opened), 1)[2] > 1.3 * inside
    open_viewer(opened, 1)
    assert opened.run("document.querySelectorAll('.viewer canvas').length") == 1
    assert opened.run("document.querySelectorAll('.viewer')[0].querySelector('button').checkVisibility()")
    opened.run("document.querySelector('.viewer [name=close]').click()")
    assert opened.run("document.querySelectorAll('.viewer canvas').length") == 0


def test_a_viewer_may_be_closed_while_it_loads(opened):
    opened.run("for (const one of document.querySelectorAll('.viewer > button')) one.click()")
    opened.wait_for("document.querySelectorAll('.viewer')[1].dataset.ready")
    opened.run("new Promise(done => setTimeout(done, 1000))")
    assert opened.run("document.querySelectorAll('.viewer canvas').length") == 1
    assert not opened.run("document.querySelectorAll('.viewer')[0].dataset.ready")
    assert np.ptp(drawn(opened)) > 0.5


def test_without_webgl_the_figure_stays_and_the_viewer_says_why(opened):
    opened.run("HTMLCanvasElement.prototype.getContext = () => null")
    opened.run("document.querySelector('.viewer button').click()")
    opened.wait_for(f"{PLACE}.includes('no WebGL 2')")


def test_a_phone_scrolls_down_only(browser, page):
    browser.open(page, **PHONE)
    browser.run(UNFOLD)
    open_viewer(browser)
    assert np.ptp(drawn(browser)) > 0.5
    wide = """[...document.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > innerWidth + 1
      && !one.closest(".scroll, .panels.full figure, svg")).map(one => one.outerHTML.slice(0, 80))"""
    assert browser.run("document.documentElement.scrollWidth") <= PHONE["width"], browser.run(wide)


def test_print_has_pages_and_no_viewer(opened):
    pdf = opened.pdf()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 4
    assert len(pdf) > 1e5
    opened.call("Emulation.setEmulatedMedia", media="print")
    assert not opened.run("document.querySelector('.viewer button').checkVisibility()")
    assert opened.run("document.querySelector('#explanations figure img').checkVisibility()")
    opened.call("Emulation.setEmulatedMedia", media="")


def test_print_unfolds_what_is_folded_and_folds_it_again(browser, page):
    browser.open(page)
    folded = "[...document.querySelectorAll('main details')].map(one => one.open)"
    before = browser.run(folded)
    assert not all(before)
    browser.run(
        "window.left = null; addEventListener('beforeprint', () => { window.left = "
        "[...document.querySelectorAll('main details:not([open]) > summary')].map(one => one.textContent) })"
    )
    browser.pdf()
    assert set(browser.run("window.left")) == {"Configuration", "The viewer is NiiVue; its licence"}
    assert browser.run(folded) == before
