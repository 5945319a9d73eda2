"""Nothing that a model, a dataset or a file name says can run in the report or break it."""

import json
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ATTACKS = [
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror=window.pwned=1>",
    "<svg/onload=window.pwned=1>",
    '"><iframe srcdoc="<script>parent.pwned=1</script>">',
    "<!--<script>",
    "]]><script>window.pwned=1</script>",
    "{{ 7 * 7 }}{% raw %}",
    "${window.pwned=1}",
    "javascript:window.pwned=1",
    "&lt;b&gt;&amp;#x3c;img src=x onerror=window.pwned=1&gt;",
    "\u202etxet desrever\u202c",
    "\u2066isolated\u2069 \u200fright\u200e",
    "line\u2028separator\u2029paragraph",
    "nul\x00 escape\x1b[31m bell\x07",
    "שלום עולם العربية",
    "👩‍👩‍👧‍👦 第九 ﷽",
    "__proto__",
    "constructor",
    "toString",
    "\ud83d lone surrogate",
]


def hostile_lines(strings):
    """Lines whose ids, images, names, keys, slots, errors and texts are the given strings."""
    for number, text in enumerate(strings):
        desc = json.dumps(text)
        gt = [{"desc": text if text.strip() else "x", "bbox_2d": [100, 100, 500, 500]}]
        box = "[<|coord_100|>, <|coord_100|>, <|coord_500|>, <|coord_500|>]"
        records = [
            f'{{"desc": {desc}, "bbox_2d": {box}}}',
            f'{{"desc": {desc}, "bbox_2d": [{text}, <|coord_1|>, <|coord_2|>, <|coord_3|>]}}',
            f'{{"desc": {desc}, {desc}: {box}}}',
        ]
        base = {"id": f"{number} {text}", "image": text, "width": 1000, "height": 1000, "gt": gt}
        yield base | {"text": text + '{"objects": [' + ", ".join(records) + "]}" + text}
        yield base | {"id": f"{number} failed {text}", "text": "", "error": text}
        yield base | {"id": f"{number} only {text}", "text": text}


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory, write_run, write_page):
    """A report of two runs that are hostile throughout, their folders' names included."""
    folder = tmp_path_factory.mktemp("hostile")
    lines = list(hostile_lines(ATTACKS))
    meta = {
        "checkpoint": {"name": ATTACKS[0], "hash": ATTACKS[1]},
        "prompt": {"name": ATTACKS[3]},
        "decode": {ATTACKS[0]: ATTACKS[1]},
        "dataset": {"path": ATTACKS[1], "sha256": ATTACKS[0]},
        "image_root": ATTACKS[1],
    }
    first = write_run(folder / "<img src=x onerror=window.pwned=1>", lines, **meta)
    second = write_run(folder / "b\u202e<script>window.pwned=1<", lines[::-1])
    return write_page(folder / "report.html", first, second)


def nothing_ran(page):
    """No attack left a trace, and no element exists that we did not make."""
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.locator("iframe, object, embed, [onerror], [onload]").count() == 0
    assert page.locator("img:not([src^='data:image/jpeg;base64,'])").count() == 0
    assert page.locator("body script:not([type])").count() == 2


def test_attacks_do_not_run_and_every_image_can_be_read(hostile_page, visit):
    """Walking through all images of both runs shows each and runs nothing."""
    page = visit(hostile_page)
    total = 3 * len(ATTACKS)
    assert page.locator("#matches").inner_text() == f"{total} of {total} images"
    for _ in range(2):
        page.keyboard.press("r")
        page.locator("#list .item").first.click()
        seen = {page.locator("#detail").get_attribute("data-id")}
        while page.locator("button[name=next]").is_enabled():
            before = page.locator(".where").inner_text()
            page.keyboard.press("j")
            page.locator(f".where:not(:text-is('{before}'))").wait_for()
            seen.add(page.locator("#detail").get_attribute("data-id"))
        assert len(seen) == total
    nothing_ran(page)


def test_texts_are_shown_as_they_are(hostile_page, visit):
    """Markup is visible as text, character for character."""
    page = visit(hostile_page)
    page.fill("input[name=q]", "1 only <img")
    page.locator("#detail[data-id^='1 only']").wait_for()
    assert page.locator(".rawtext").inner_text().strip() == ATTACKS[1]
    nothing_ran(page)


def test_direction_marks_are_visible_and_isolated(hostile_page, visit):
    """A right-to-left override is written out as an escape and reorders nothing."""
    page = visit(hostile_page)
    page.fill("input[name=q]", "only \u202etxet")
    page.locator("#detail[data-id^='10 only']").wait_for()
    assert page.locator(".rawtext .hidden-sign").all_inner_texts() == ["\\u202e", "\\u202c"]
    assert "\u202e" not in page.locator("body").evaluate("node => node.innerText")


def test_offsets_hold_beyond_the_basic_plane(hostile_page, visit):
    """With emoji before it, a record's span still starts at its brace and ends at its brace."""
    page = visit(hostile_page)
    page.fill("input[name=q]", "15 👩")
    page.locator("#detail[data-id^='15 👩']").wait_for()
    spans = page.locator(".rawtext .record bdi").all_inner_texts()
    assert len(spans) == 3
    assert all(span.startswith("{") and span.endswith("}") for span in spans)


def test_the_address_is_only_text(hostile_page, visit):
    """A hostile address finds nothing and runs nothing."""
    page = visit(
        hostile_page, "#id=<img src=x onerror=window.pwned=1>&run=__proto__&sort=constructor"
    )
    assert "No image" in page.locator("#detail").inner_text()
    nothing_ran(page)


def test_class_filter_with_inherited_names(hostile_page, visit):
    """Classes called like parts of JavaScript are classes."""
    page = visit(hostile_page)
    page.select_option("select[name=class]", "__proto__")
    assert page.locator("#matches").inner_text().startswith("3 of")


@pytest.mark.data
def test_the_list_of_naughty_strings(tmp_path, visit, write_run, write_page):
    """All of the big list of naughty strings, as descriptions, ids and texts."""
    folder = os.environ.get("COORDEVAL_DATA")
    if not folder:
        pytest.skip("COORDEVAL_DATA is not set")
    (source,) = sorted((Path(folder) / "blns").glob("*.json"))
    strings = json.loads(source.read_text(encoding="utf-8"))
    run = write_run(tmp_path / "run", hostile_lines(strings))
    page = visit(write_page(tmp_path / "report.html", run))
    assert (
        page.locator("#matches").inner_text()
        == f"{3 * len(strings):,} of {3 * len(strings):,} images"
    )
    for _ in range(100):
        page.keyboard.press("j")
    page.locator(".where", has_text="101 of").wait_for()
    nothing_ran(page)
