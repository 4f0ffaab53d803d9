import re
import shutil

import pytest

from report import synthetic
from tlx.report.build import build

CHROMIUM = "/usr/bin/chromium"
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync"]  # fmt: skip
STUDIES = sorted(synthetic.STUDIES_MADE)
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if not shutil.which(CHROMIUM):
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, studies):
    """Opens a study's page; fails at the end for anything said on the console or requested."""
    said, contexts = [], []

    def open_page(name, path=None, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith(("blob:", "data:")) or said.append(request.url),
        )
        url = (path or studies[name][2].html).as_uri()
        page.goto(url)
        said.remove(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


def draw_all(page):
    """Scrolls to every figure and waits until it is drawn."""
    for figure in page.query_selector_all("figure.plot"):
        figure.scroll_into_view_if_needed()
        figure.wait_for_selector(".main-svg, .draw .failed", state="attached")
    assert page.query_selector(".draw .failed") is None


def first_column(page, table, *, visible=True):
    rows = page.locator(f"#table-{table} tbody tr" + (":not([hidden])" if visible else ""))
    return [row.locator("th").inner_text() for row in rows.all()]


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_is_whole_without_a_browser(studies, name):
    text = studies[name][2].html.read_text(encoding="utf-8")
    assert len(text) < 6_000_000
    assert synthetic.EVIL not in text
    assert not re.findall(r"""(?:src|srcset|action)\s*=\s*["']?(?:https?:)?//""", text)
    assert "n = " in text
    assert text.index("verdicts-title") < text.index("results-title")


def test_hostile_names_stay_text(studies, opened):
    page = opened("explicit")
    draw_all(page)
    assert page.locator("#table-main tbody th", has_text=synthetic.EVIL).count() == 1
    assert page.evaluate("document.querySelectorAll('main script:not([type])').length") == 0
    forest = page.locator("#fig-forest .ytick").all_text_contents()
    assert any("<script>alert(1)</script>" in text for text in forest)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize(("scheme", "size"), [("light", "desktop"), ("dark", "phone")])
def test_every_figure_draws_without_a_word(opened, name, scheme, size):
    options = PHONE if size == "phone" else {"viewport": {"width": 1280, "height": 900}}
    page = opened(name, color_scheme=scheme, **options)
    draw_all(page)
    assert page.query_selector("figure.plot")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= options["viewport"]["width"]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_choice_of_a_figure_draws(opened, name):
    page = opened(name)
    draw_all(page)
    for select in page.locator("figure select").all():
        for option in select.locator("option").all_inner_texts():
            select.select_option(option)
    page.wait_for_timeout(300)
    assert page.query_selector(".draw .failed") is None


def test_tables_sort_by_keyboard(opened):
    page = opened("explicit")
    button = page.locator("#table-main thead th:nth-child(2) button")
    button.focus()
    page.keyboard.press("Enter")
    head = page.locator("#table-main thead th:nth-child(2)")
    assert head.get_attribute("aria-sort") == "descending"
    cells = page.locator("#table-main tbody td:nth-child(2)")
    values = [float(cell.get_attribute("data-v")) for cell in cells.all()]
    assert values == sorted(values, reverse=True)
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(cell.get_attribute("data-v")) for cell in cells.all()]
    assert values == sorted(values)
    others = page.locator("#table-main thead th:not(:nth-child(2))")
    assert {other.get_attribute("aria-sort") for other in others.all()} == {"none"}
    assert "ascending" in page.locator("#said").inner_text()


def test_what_is_not_there_sorts_last(opened):
    page = opened("explicit")
    heads = page.locator("#table-main thead th").all_inner_texts()
    place = next(i for i, head in enumerate(heads) if head.startswith("Δ"))
    for _ in range(2):
        page.locator(f"#table-main thead th:nth-child({place + 1}) button").press("Enter")
        assert first_column(page, "main")[-1].endswith("full")  # the baseline has no difference


def test_tables_filter_by_keyboard(opened):
    page = opened("explicit")
    page.locator("#table-splits input").focus()
    page.keyboard.type("PROBE")
    assert [name.split()[-1] for name in first_column(page, "splits")] == ["linear_probe"]
    assert page.locator("#table-splits .count").inner_text() == "1 of 6 rows"
    page.keyboard.press("Escape")
    assert len(first_column(page, "splits")) == 6


def test_the_theme_follows_the_system_and_a_button(opened):
    background = "getComputedStyle(document.body).backgroundColor"
    tick = "getComputedStyle(document.querySelector('#fig-forest .ytick text')).fill"
    page = opened("leave_one_out", color_scheme="dark")
    draw_all(page)
    dark, dark_tick = page.evaluate(background), page.evaluate(tick)
    page.locator("#theme").press("Enter")
    page.wait_for_timeout(300)
    light, light_tick = page.evaluate(background), page.evaluate(tick)
    assert (dark, light) == ("rgb(18, 23, 29)", "rgb(255, 255, 255)")
    assert dark_tick != light_tick  # figures follow
    assert page.locator("#theme").inner_text() == "Dark mode"


def test_arms_can_be_hidden_everywhere(opened):
    page = opened("explicit")
    draw_all(page)
    chips = page.locator(".chip[data-arm='scratch']")
    assert chips.count() >= 3
    lines = "document.querySelectorAll('#fig-calibration .scatterlayer .trace').length"
    before = page.evaluate(lines)
    page.locator("#fig-curves .chip[data-arm='scratch']").press("Enter")
    page.wait_for_timeout(300)
    assert {chip.get_attribute("aria-pressed") for chip in chips.all()} == {"false"}
    assert page.evaluate(lines) == before - 1


def test_arms_keep_one_colour(opened):
    page = opened("explicit")
    classes = page.evaluate(
        """Array.from(document.querySelectorAll('.swatch'), s =>
           [(s.closest('[data-arm]')?.dataset.arm ?? s.parentElement.textContent.slice(1)).trim(),
            s.className])"""
    )
    by_arm = {}
    for arm, name in classes:
        by_arm.setdefault(arm, set()).add(name)
    assert len(by_arm) == 6
    assert all(len(names) == 1 for names in by_arm.values())


def test_an_injected_script_does_not_run(browser, studies, tmp_path):
    text = studies["leave_one_out"][2].html.read_text(encoding="utf-8")
    path = tmp_path / "broken.html"
    path.write_text(text.replace("<main", "<script>window.hurt = 1</script><main"))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.hurt") is None
    assert page.locator("#theme").inner_text() == "Dark mode"  # while ours did
    page.close()


@pytest.mark.slow
def test_a_thousand_runs_stay_light(tmp_path, opened):
    folder = synthetic.large(tmp_path, arms=200, seeds=5)
    path = build(folder, runs_dir=tmp_path).html
    assert path.stat().st_size < 6_000_000
    draw_all(opened("large", path=path))


def test_a_phone_tells_similar_arms_apart(tmp_path, opened):
    folder = synthetic.leave_one_out(tmp_path, seeds=3)
    path = folder / "manifest.json"
    long = "without a regulariser whose long name ends in {} and goes on for long after that"
    text = path.read_text()
    for name in ("mixup", "ema", "l2_sp"):
        text = text.replace(f"without {name}", long.format(name))
    path.write_text(text)
    page = opened("long", path=build(folder, runs_dir=tmp_path).html, **PHONE)
    draw_all(page)
    ticks = page.locator("#fig-forest .ytick text").all_text_contents()
    assert len(ticks) == len(set(ticks)) == 5
    assert max(map(len, ticks)) <= 40


@pytest.mark.parametrize("name", STUDIES)
def test_costs_and_runs_need_no_scrolling(opened, name):
    page = opened(name, viewport={"width": 1280, "height": 900})
    for table in ("cost", "provenance"):
        frame = page.locator(f"#table-{table} .scroll")
        wide, room = frame.evaluate("item => [item.scrollWidth, item.clientWidth]")
        assert wide <= room


def test_what_was_reused_stands_under_what_it_belongs_to(opened):
    page = opened("shared")
    assert "3 min 18 s of computing spared" in page.locator("#cost > p").inner_text()
    row = page.locator("#table-cost tbody tr", has_text="linear_probe").inner_text().split("\n")
    assert {"spared 9.8 s", "reused 320", "jobs 1"} <= {text.strip() for text in row}
    heads = page.locator("#table-cost thead th").count()
    assert page.locator("#table-cost tbody tr").first.locator("th, td").count() == heads
    page.locator("#table-provenance input").focus()
    page.keyboard.type("fused with 4")
    names = first_column(page, "provenance")
    assert len(names) == 10
    assert all("probe" in name for name in names)


@pytest.mark.parametrize("name", STUDIES)
def test_ids_and_commands_stay_in_their_cells(opened, name):
    page = opened(name, viewport={"width": 1280, "height": 900})
    over = page.evaluate(
        """Array.from(document.querySelectorAll('#table-provenance tbody code'), code =>
           [code, code.parentElement].map(item => item.getBoundingClientRect().right))"""
    )
    assert over
    assert all(code <= cell for code, cell in over)
    frame = page.locator("#table-provenance .scroll").bounding_box()
    command = page.locator("#table-provenance tbody td.line").first.bounding_box()
    assert command["x"] + command["width"] <= frame["x"] + frame["width"]
