"""Data inside the page: escaping, compression, offsets, and the policy of the page."""

import base64
import hashlib
import json
import re
import zlib

from hypothesis import given
from hypothesis import strategies as st

from coordeval.reports.html import embed
from coordeval.reports.html.embed import pack_chunks, script_json
from coordeval.reports.html.offsets import utf16_offsets
from coordeval.reports.html.page import chart_library, content_policy, own_script

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["</script>", "<!--", "<script>", "&amp;", "\u2028", "\u2029", "\ud83d", "]]>"]
)


@given(st.recursive(ANY_TEXT | st.integers() | st.none(), st.lists))
def test_any_text_comes_back_and_cannot_end_its_element(value):
    """Whatever is embedded is read back equal, and holds no sign that HTML acts on."""
    text = str(script_json(value))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


@given(st.text(st.characters(exclude_categories=()), max_size=40), st.data())
def test_offsets_are_those_of_utf16(text, data):
    """The prefix up to an offset has as many UTF-16 units as the new offset says."""
    offset = data.draw(st.integers(0, len(text)))
    (units,) = utf16_offsets(text, [offset])
    assert units == len(text[:offset].encode("utf-16-le", "surrogatepass")) // 2


def test_small_details_stay_readable_and_large_ones_are_deflated(monkeypatch):
    """Both forms hold the same chunks."""
    chunks = [[{"t": "a" * 50}], [{"t": "b<"}]]
    assert pack_chunks(chunks) == {"codec": "json", "chunks": chunks}
    monkeypatch.setattr(embed, "PLAIN_LIMIT_BYTES", 10)
    packed = pack_chunks(chunks)
    assert packed["codec"] == "deflate"
    read = [json.loads(zlib.decompress(base64.b64decode(text))) for text in packed["chunks"]]
    assert read == chunks


def test_no_chunks_are_an_empty_list():
    """An empty run has no details."""
    assert pack_chunks([]) == {"codec": "json", "chunks": []}


def test_the_policy_closes_the_network_and_names_the_scripts_by_hash():
    """Nothing is allowed but the given scripts and styles and images inside the page."""
    policy = content_policy(scripts=("a()", "b()"), styles=("p{}",))
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts["default-src"] == "'none'"
    assert parts["img-src"] == "data:"
    digest = base64.b64encode(hashlib.sha256(b"a()").digest()).decode()
    assert f"'sha256-{digest}'" in parts["script-src"]
    assert "unsafe" not in policy
    assert "http" not in policy


def test_our_scripts_build_no_markup_from_text():
    """The page's own code never parses text as HTML or as code."""
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function",
        own_script(),
    )


def test_scripts_can_stand_inside_a_script_element():
    """Neither the library nor our code holds a closing tag."""
    for text in (own_script(), chart_library()):
        assert "</script" not in text.lower()
        assert "<!--" not in text
