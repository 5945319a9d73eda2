"""What models, datasets and file names say is text: in the terminal, Markdown, XML, CSV and pages."""

import csv
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET

import pytest
from forked_commands import run_forked

from coordeval.exchange.export_context import ExportContext
from coordeval.exchange.exporting import export_run
from coordeval.metrics.score import score_run
from coordeval.reports.charts.shown import shown_runs
from coordeval.reports.comparison_markdown import comparison_markdown, markdown_text
from coordeval.reports.gate_markdown import check_markdown, escaped
from coordeval.reports.html.report import build_report
from coordeval.reports.junit import check_junit
from coordeval.reports.overlay import overlay_image, write_overlay
from coordeval.reports.printable import printable
from coordeval.runs import open_run
from coordeval.stats.comparison import compare_runs
from coordeval.stats.gates import parse_gate
from coordeval.stats.gates_check import check_run

LINK = "\x1b]8;;https://evil.example/\x1b\\click\x1b]8;;\x1b\\"
EVIL = [
    LINK,
    "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "[red]x[/red] [link=file:///etc/passwd]y[/link] :bomb:",
    "\u202etxt.exe\u2066\u200b\u00ad\U000e0041\U000e007f",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "]]></failure><testcase name='fake'/><!--",
    "a | b | c\n\n| d |\n# heading\n![x](https://evil.example/x.png) @everyone `code`",
    "[click](javascript:alert(1)) <https://evil.example> ~~x~~ $x$",
    "\0\x01\x0b\ufffe\uffff\ud800",
    '=HYPERLINK("https://evil.example")',
    "::error::x\r::set-output name=a::b",
    "{{ 7*7 }} ${7*7} {0.__class__} %s %(x)s",
    "../../../etc/passwd",
    "\n\nerror: all is well\n",
]


def hostile_lines():
    """Lines whose ids, images, classes, keys, slots, errors and prose are hostile."""
    box = "[<|coord_10|>, <|coord_10|>, <|coord_500|>, <|coord_500|>]"
    for number, text in enumerate(EVIL):
        desc = json.dumps(text)
        records = [
            f'{{"desc": {desc}, "bbox_2d": {box}}}',
            f'{{"desc": {desc}, "bbox_2d": [{text}, <|coord_1|>, <|coord_2|>, <|coord_3|>]}}',
            f'{{"desc": {desc}, {desc}: {box}}}',
        ]
        base = {"id": f"{number}{text}", "image": text, "width": 1000, "height": 1000}
        gt = [{"desc": text, "bbox_2d": [10, 10, 500, 500]}]
        answer = '{"objects": [' + ", ".join(records) + "]}"
        yield base | {"gt": gt, "text": text + answer + text, "finish_reason": "stop"}
        yield base | {"id": f"failed {number}{text}", "gt": gt, "text": "", "error": text}


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    """A run directory that is hostile throughout, its own name included."""
    folder = tmp_path_factory.mktemp("hostile") / "run\x1b[31m<b>|`@x"
    folder.mkdir()
    lines = "".join(json.dumps(line) + "\n" for line in hostile_lines())
    (folder / "rollouts.jsonl").write_text(lines)
    meta = {"format": "coordeval-run/1", "checkpoint": {"name": EVIL[0], "path": EVIL[4]}}
    meta |= {"prompt": {"name": EVIL[1]}, "decode": {EVIL[2]: EVIL[3]}, "image_root": EVIL[12]}
    meta |= {"engine": {"name": EVIL[6]}, "dataset": {"path": EVIL[5], "sha256": EVIL[7]}}
    (folder / "run.json").write_text(json.dumps(meta))
    return folder


@pytest.fixture(scope="module")
def scored(hostile_run):
    """The run, scored."""
    return score_run(open_run(hostile_run))


def assert_only_text(shown):
    """No control character but line ends, nothing invisible, nothing that reorders."""
    for sign in shown:
        assert sign == "\n" or unicodedata.category(sign) not in {"Cc", "Cf", "Cs", "Co"}, repr(
            sign
        )


COMMANDS = {
    "score": ["score", "RUN"],
    "inspect": ["inspect", "RUN"],
    "inspect one": ["inspect", "RUN", "ID"],
    "inspect unknown": ["inspect", "RUN", "nothing" + EVIL[1].replace("\0", "")],
    "attribute": ["attribute", "RUN"],
    "compare": ["compare", "RUN", "RUN"],
    "check": ["check", "RUN", "--gate", "f1/0.50/f1>=0.99"],
    "overlay": ["overlay", "RUN", "ID", "-o", "OUT/x.svg"],
    "report": ["report", "RUN", "-o", "OUT/report.html"],
    "export": ["export", "RUN", "--to", "csv", "-o", "OUT/x.csv"],
    "validate": ["data", "validate", "RUN/rollouts.jsonl"],
    "missing": ["score", "RUN/no\x1b[31m"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_control_characters(hostile_run, tmp_path, name):
    """Whatever a run holds, stdout and stderr of every command are plain text, and no bug shows."""
    words = {"RUN": str(hostile_run), "ID": "0" + LINK}
    arguments = [
        words.get(word, word).replace("RUN/", f"{hostile_run}/").replace("OUT/", f"{tmp_path}/")
        for word in COMMANDS[name]
    ]
    done = run_forked(*arguments, text=False)
    output = (done.stdout + done.stderr).decode("utf-8")
    assert done.returncode in {0, 1, 2, 3}, output
    assert "Traceback" not in output
    assert_only_text(output)


@pytest.mark.parametrize("text", EVIL)
def test_printable_text_is_one_visible_line(text):
    """Nothing that a terminal obeys is left, and what is left says what was there."""
    shown = printable(text)
    assert "\n" not in shown
    assert_only_text(shown)
    assert len(shown) >= len(text)


def test_every_invisible_character_is_written_out():
    """Over all of Unicode: controls, formats, surrogates, fillers and tags never come through."""
    fillers = {0x115F, 0x1160, 0x3164, 0xFFA0, 0x034F, 0x17B4, 0x17B5}
    for code in range(0x110000):
        sign = chr(code)
        if unicodedata.category(sign) in {"Cc", "Cf", "Cs"} or code in fillers:
            shown = printable(sign)
            visible = 0x600 <= code <= 0x605 or code in _VISIBLE_FORMATS
            assert (shown != sign) or visible, hex(code)


_VISIBLE_FORMATS = {
    *(0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD),
    *range(0x13430, 0x13440),
    *range(0x1BCA0, 0x1BCA4),
}
"""Format characters that draw something: number signs, Egyptian joiners, shorthand marks."""


def test_rich_markup_and_emoji_codes_stay_text(hostile_run):
    """Rich's markup is not read in foreign text."""
    done = run_forked("inspect", hostile_run, "2" + EVIL[2])
    assert "[red]x[/red]" in done.stdout
    assert ":bomb:" in done.stdout


def _check(scored):
    gates = [parse_gate("f1/0.50/f1>=0.99"), parse_gate("parse/detail/*<=0")]
    return check_run(scored, gates, None, run=EVIL[6] + EVIL[5] + EVIL[8], baseline_path=None)


def test_junit_is_xml_with_one_case_per_gate(scored):
    """Hostile names of runs, gates and details make no element and no broken XML."""
    found = _check(scored)
    root = ET.fromstring(check_junit(found))
    assert len(root.findall(".//testcase")) == len(found.outcomes)
    assert not [case for case in root.iter("testcase") if case.get("name") == "fake"]
    assert {element.tag for element in root.iter()} <= {
        *("testsuites", "testsuite", "testcase", "failure", "skipped", "error"),
    }


@pytest.mark.parametrize("text", EVIL)
def test_markdown_cells_hold_no_markup(text):
    """No pipe, tag, link, image, mention, heading or code of foreign text is Markdown."""
    import re

    for shown in (escaped(text), markdown_text(text)):
        assert "\n" not in shown
        assert_only_text(shown)
        bare = re.sub(r"\\[\\`*_{}\[\]<>()#+!|~$&@:-]|&(?:lt|gt|amp|#64|#58);", "", shown)
        assert not re.search(r"[`*_\[\]<>|~$@]", bare), bare


@pytest.mark.parametrize("shown_as", [escaped, markdown_text])
@pytest.mark.parametrize(
    "text",
    ["www.evil.example", "x_www.evil.example", "a@evil.example", "@someone", "see #1", "a@-b.c"],
)
def test_markdown_makes_no_links_of_words(text, shown_as):
    """What sites link without markup: `www.`, addresses, mentions and numbers, also when escaped.

    GitHub looks for addresses, names and numbers in what is left once backslashes are resolved.
    """
    import html
    import re

    shown = shown_as(text)
    resolved = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", shown))
    assert resolved.replace("\u200b", "") == text
    assert not re.search(r"[@#][\w-]", resolved)
    assert "www." not in shown


def test_tables_of_hostile_runs_keep_their_columns(hostile_run, scored):
    """Every row of a Markdown table has as many cells as its head."""
    import re

    comparison = compare_runs([open_run(hostile_run), open_run(hostile_run)])
    for page in (check_markdown(_check(scored)), comparison_markdown(comparison)):
        widths = None
        for line in page.splitlines():
            if not line.startswith("|"):
                widths = None
                continue
            cells = len(re.findall(r"(?<!\\)\|", line))
            widths = widths or cells
            assert cells == widths, line


def test_the_page_holds_no_element_of_foreign_text(hostile_run, scored, tmp_path):
    """The report parses into our own elements alone, and no data ends its script."""
    from html.parser import HTMLParser

    class Seen(HTMLParser):
        def __init__(self):
            super().__init__(convert_charrefs=True)
            self.tags = []

        def handle_starttag(self, tag, attributes):
            self.tags.append(tag)
            for name, value in attributes:
                assert not name.startswith("on"), (tag, name)
                assert "javascript:" not in (value or "").lower()
                if name in {"src", "href"} and not (value or "").startswith(("#", "data:")):
                    raise AssertionError((tag, name, value))

    page = build_report(shown_runs([(open_run(hostile_run), scored)]), max_thumbnails=3).html
    seen = Seen()
    seen.feed(page)
    assert not {"iframe", "object", "embed", "base"} & set(seen.tags)
    assert page.count("</script>") == seen.tags.count("script")
    assert "alert(1)</script>" not in page


@pytest.mark.parametrize("number", range(len(EVIL)))
def test_drawings_are_sound_xml_without_scripts(scored, tmp_path, number):
    """An overlay's SVG parses, holds no script, link or event, and is where it was asked for."""
    scene, picture = overlay_image(scored, f"{number}{EVIL[number]}", image_root=None)
    out = tmp_path / "x.svg"
    write_overlay(scene, picture, out)
    tags = set()
    for element in ET.fromstring(out.read_bytes()).iter():
        tags.add(element.tag.rpartition("}")[2])
        assert not [name for name in element.attrib if name.startswith("on")]
        assert not [value for value in element.attrib.values() if "javascript:" in value]
    assert not {"script", "a", "foreignObject", "image"} & tags
    assert [path.name for path in tmp_path.iterdir()] == ["x.svg"]


def test_csv_cells_are_no_formulas(scored, tmp_path):
    """Cells that a spreadsheet would run get a leading quote, which is counted and said."""
    done = export_run(scored, "csv", tmp_path / "x.csv", ExportContext(name="x"))
    rows = list(csv.reader(io.StringIO((tmp_path / "x.csv").read_text(encoding="utf-8"))))
    risky = ("=", "+", "-", "@", "\t", "\r", "\n")
    numbers = 0
    for row in rows[1:]:
        assert len(row) == len(rows[0])
        for cell in row:
            if cell.startswith(risky):
                float(cell)  # a negative number is no formula
                numbers += 1
    guarded = sum(cell.startswith("'") for row in rows for cell in row)
    assert guarded > 0
    assert done.remarks[0].startswith(f"{guarded} cells")
    plain = export_run(scored, "parquet", tmp_path / "x.parquet", ExportContext(name="x"))
    assert not plain.remarks


@pytest.mark.parametrize("to", ["coco", "fiftyone", "labelstudio"])
def test_exports_stay_in_their_folder_and_parse(scored, tmp_path, to):
    """Hostile ids and paths name no file of an export, and every file is sound JSON or XML."""
    out = tmp_path / "a" / "out"
    done = export_run(scored, to, out, ExportContext(name=EVIL[6], image_root=tmp_path))
    for path in done.paths:
        assert path.parent == out
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        else:
            ET.fromstring(path.read_bytes())
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        path.name for path in done.paths
    }


@pytest.mark.parametrize("name", ["../../x", "x/../../y", "/etc/x", "..", "a\0b", "=x", ""])
@pytest.mark.parametrize("option", ["--protocol", "--dialect", "--frame"])
def test_names_of_protocols_are_no_paths(tmp_path, name, option):
    """What becomes part of `score@NAME` is one of the known names, never a path."""
    if "\0" in name:
        pytest.skip("no command line holds a NUL")
    path = tmp_path / "run"
    path.mkdir()
    (path / "run.json").write_text('{"format": "coordeval-run/1"}')
    (path / "rollouts.jsonl").write_text("")
    done = run_forked("score", path, option, name)
    assert done.returncode == 2
    assert sorted(item.name for item in tmp_path.rglob("*")) == [
        "rollouts.jsonl",
        "run",
        "run.json",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "::add-mask::a",
        "  ::stop-commands::x",
        "a\n::error::b",
        "x ::warning::",
        "##vso[a]b",
        "##[group]",
        "x ##teamcity[setParameter name='a' value='b']",
    ],
)
def test_texts_are_no_commands_to_a_ci_service(text):
    """No word of a text begins with two colons, nor is `##[` in it; the rest stays as it is."""
    shown = printable(text)
    assert not any(word.startswith("::") for word in shown.split())
    assert not re.search(r"##(vso|teamcity)?\[", shown, re.IGNORECASE)
    assert shown.replace("\\x3a", ":").replace("\\x23", "#").replace("\\n", "\n") == text
    assert printable("std::vector # 1 : a") == "std::vector # 1 : a"


def test_libraries_print_no_control_characters(monkeypatch):
    """Names of a checkpoint that a library logs or warns of reach no terminal as control."""
    import logging
    import warnings

    from coordeval.cli.library_words import make_library_words_printable

    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    before = logging.getLogRecordFactory()
    try:
        make_library_words_printable()
        record = logging.getLogRecordFactory()(
            "x", logging.WARNING, "f", 1, "\x1b[1mkeys\x1b[0m\n%s | new", (LINK,), None
        )
        assert record.getMessage() == f"keys\n{printable(LINK)} | new"
        assert_only_text(warnings.formatwarning(LINK, UserWarning, "f.py", 1, "x"))
    finally:
        logging.setLogRecordFactory(before)
