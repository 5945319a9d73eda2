"""The report page in a real browser: figures, filters, layers, links, keys, themes."""

import re
import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
RUNS = Path(__file__).parents[2] / "fixtures" / "runs"


def listed(page):
    """Ids in the list, in order, those behind 'show more' included."""
    while page.locator("#more").is_visible():
        page.locator("#more").click()
    return page.locator("#list .item-id").all_inner_texts()


def chosen(page):
    return page.locator("#detail").get_attribute("data-id")


def test_every_figure_is_drawn_with_a_description(story_page, visit):
    """Each figure is an SVG with the alternative text that names its runs."""
    page = visit(story_page)
    names = [node.get_attribute("id") for node in page.locator(".chart").all()]
    assert {"chart-drops", "chart-attribution", "chart-f1_iou", "chart-bin_errors"} <= set(names)
    for chart in page.locator(".chart").all():
        assert chart.locator("svg").count() == 1
        assert "ckpt-2400" in chart.get_attribute("aria-label")


def test_figures_follow_the_theme(story_page, visit):
    """The button turns the page dark and draws the figures anew in the dark colours."""
    page = visit(story_page, color_scheme="light")
    drops = page.locator("#chart-drops")
    light = drops.inner_html()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    page.locator('#chart-drops[data-drawn="dark"] svg').wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert drops.inner_html() != light


def test_the_system_theme_is_followed(story_page, visit):
    """Who has a dark system gets a dark page."""
    page = visit(story_page, color_scheme="dark")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_filters_keep_what_they_say(story_page, visit):
    """A drop reason, an issue, loops and comparison each narrow the list to such images."""
    page = visit(story_page)
    everything = listed(page)
    assert len(everything) == 64
    page.select_option("select[name=reason]", "wrong_arity")
    arity = listed(page)
    assert 0 < len(arity) < 64
    assert page.locator("#matches").inner_text().startswith(f"{len(arity)} of 64")
    assert "wrong_arity" in page.locator(".rawtext").inner_text()
    page.locator("button[name=reset]").click()
    page.select_option("select[name=state]", "loop")
    assert len(listed(page)) == page.locator("#list .chip.loop").count() > 0
    page.locator("button[name=reset]").click()
    page.select_option("select[name=issue]", "truncated")
    assert page.locator(".chip.issue", has_text="truncated").count() == 1
    page.locator("button[name=reset]").click()
    page.select_option("select[name=versus]", "worse:ckpt-300")
    worse = listed(page)
    assert len(worse) == page.locator("#list .chip.worse").count() > 0
    page.select_option("select[name=versus]", "better:ckpt-300")
    assert set(listed(page)).isdisjoint(worse)


def test_class_and_size_filters_and_search(story_page, visit):
    """Class, object size and search combine."""
    page = visit(story_page)
    page.select_option("select[name=class]", "red circle")
    with_class = listed(page)
    assert 0 < len(with_class) < 64
    page.select_option("select[name=size]", "small")
    assert set(listed(page)) <= set(with_class)
    page.locator("button[name=reset]").click()
    page.fill("input[name=q]", "0017")
    assert listed(page) == ["0017"]
    page.fill("input[name=q]", "no such thing")
    assert listed(page) == []
    assert "No image fits" in page.locator("#detail").inner_text()


def test_sorting_by_run_order_and_back(story_page, visit):
    """The worst stand first, until another order is chosen."""
    page = visit(story_page)
    worst_first = listed(page)
    page.select_option("select[name=sort]", "order")
    assert listed(page) == [f"{number:04d}" for number in range(64)]
    assert listed(page) != worst_first


def test_layers_are_switched_by_click_and_by_key(story_page, visit):
    """Each layer of the picture disappears and comes back."""
    page = visit(story_page, "#id=0017&run=ckpt-2400")
    for name, key in {"truth": "g", "predictions": "p", "repeats": "d", "dropped": "x"}.items():
        layer = page.locator(f".picture .layer-{name}")
        shown = f"getComputedStyle(document.querySelector('.picture .layer-{name}')).display"
        assert layer.count() == 1
        page.locator(f"#toggles input[name={name}]").uncheck()
        assert page.evaluate(shown) == "none"
        page.locator("#detail h3").click()
        page.keyboard.press(key)
        assert page.evaluate(shown) != "none"
        assert page.locator(f"#toggles input[name={name}]").is_checked()


def test_boxes_and_text_point_at_each_other(story_page, visit):
    """A click on a record's text picks its box, and the other way round."""
    page = visit(story_page, "#id=0017&run=ckpt-2400")
    page.locator('.rawtext [data-record="0"]').click()
    assert "picked" in page.locator('.picture [data-record="0"]').get_attribute("class")
    page.locator('.picture [data-record="1"]').dispatch_event("click")
    assert "picked" in page.locator('.rawtext [data-record="1"]').get_attribute("class")
    assert "picked" not in page.locator('.picture [data-record="0"]').get_attribute("class")


def test_a_deep_link_opens_its_view(story_page, visit):
    """Image, run and filters stand in the address and are found there again."""
    page = visit(story_page, "#id=0017&run=ckpt-300")
    assert chosen(page) == "0017"
    assert page.locator("select[name=run]").input_value() == "ckpt-300"
    assert page.locator("#gallery").evaluate("node => node.getBoundingClientRect().top") < 400
    page.select_option("select[name=run]", "ckpt-2400")
    page.select_option("select[name=reason]", "wrong_arity")
    address = page.evaluate("location.hash")
    assert "reason=wrong_arity" in address
    again = visit(story_page, address)
    assert listed(again) == listed(page)
    assert chosen(again) == chosen(page)


def test_an_unknown_id_in_a_link_is_said(story_page, visit):
    """A link to an image that is not there says so instead of showing another one in silence."""
    page = visit(story_page, "#id=nowhere")
    assert "No image nowhere" in page.locator("#detail").inner_text()


def test_links_of_the_summary_lead_to_the_images(story_page, visit):
    """'see them' shows the images that a sentence is about."""
    page = visit(story_page)
    page.locator(".findings a[href*='reason=wrong_arity']").click()
    page.wait_for_timeout(200)
    assert page.locator("select[name=reason]").input_value() == "wrong_arity"
    assert len(listed(page)) < 64
    page.locator(".loops a").first.click()
    page.wait_for_timeout(200)
    assert chosen(page) == page.locator(".loops a").first.inner_text()


def test_keys_walk_search_and_help(story_page, visit):
    """j, k, arrows, /, ?, r and t do what the list of keys says."""
    page = visit(story_page)
    ids = listed(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.locator(f"#detail[data-id='{ids[2]}']").wait_for()
    page.keyboard.press("k")
    page.locator(f"#detail[data-id='{ids[1]}']").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator(f"#detail[data-id='{ids[2]}']").wait_for()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("0003")
    page.locator("#detail[data-id='0003']").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("r")
    assert page.locator("select[name=run]").input_value() == "ckpt-300"
    page.keyboard.press("t")
    assert page.locator("html").get_attribute("data-theme") in ("light", "dark")


def test_every_record_of_the_text_is_marked_and_dropped_ones_are_named(story_page, visit):
    """Dropped spans are coloured and carry their reason; the text itself is verbatim."""
    page = visit(story_page, "#run=ckpt-2400&reason=wrong_arity")
    dropped = page.locator(".rawtext .record.dropped")
    assert dropped.count() > 0
    assert "wrong_arity" in dropped.first.locator(".badge").inner_text()
    colours = {
        node.evaluate("node => getComputedStyle(node).backgroundColor")
        for node in [dropped.first, page.locator(".rawtext")]
    }
    assert len(colours) == 2


def test_loops_are_folded_and_open(story_page, visit):
    """The further copies of a loop are folded away until asked for."""
    page = visit(story_page, "#id=0017&run=ckpt-2400")
    rest = page.locator(".loop-rest")
    assert not rest.is_visible()
    page.locator("button.loop").click()
    assert rest.locator(".record").count() >= 4
    assert re.search(r"6 times in all", page.locator("button.loop").inner_text())


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(story_page, visit, tmp_path, width, theme):
    """Wide and narrow, dark and light: no sideways scrolling; a screenshot is kept."""
    page = visit(story_page, viewport={"width": width, "height": 844}, color_scheme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shot = tmp_path / f"{width}-{theme}.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 50_000


LEGENDS = """() => [...document.querySelectorAll("[id^=chart-] svg")].flatMap((picture) => {
  const frame = picture.getBoundingClientRect();
  const texts = [...picture.querySelectorAll(".role-legend text")].map((text) => [
    text.textContent, text.getBoundingClientRect()]);
  const cross = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
    && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  return texts.filter(([, box], place) => box.right > frame.right + 1
    || texts.slice(place + 1).some(([, other]) => cross(box, other))).map(([text]) => text);
})"""


@pytest.mark.parametrize("width", [1280, 390])
def test_every_legend_lies_within_its_figure(write_page, visit, tmp_path, width):
    """No entry leaves the picture or covers another one, on a phone as little as on a desk."""
    folders = [RUNS / "ckpt-300", shutil.copytree(RUNS / "ckpt-2400", tmp_path / "a-longer-name")]
    page = visit(
        write_page(tmp_path / "report.html", *folders), viewport={"width": width, "height": 844}
    )
    assert page.evaluate("document.querySelectorAll('.role-legend text').length") >= 8
    assert page.evaluate(LEGENDS) == []


def test_a_phone_shows_every_main_number_and_every_cost(story_page, visit):
    """At 420 pixels two runs' main numbers and the labels of the costs lie inside the page."""
    page = visit(story_page, viewport={"width": 420, "height": 900})
    beyond = page.evaluate(
        """() => [...document.querySelectorAll('.metrics:not(.all) td.value span, '
             + '#figure-attribution svg text')]
           .filter((part) => part.getBoundingClientRect().right > window.innerWidth)
           .map((part) => part.textContent)"""
    )
    assert not beyond
