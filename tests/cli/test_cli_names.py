"""Synonyms and embeddings on the command line: every command that scores, and no mixing."""

import json

import pytest
import typer
from typer.testing import CliRunner

from coordeval.cli.attribute import attribute
from coordeval.cli.check import check
from coordeval.cli.compare import compare
from coordeval.cli.export import export
from coordeval.cli.inspect import inspect_run
from coordeval.cli.overlay import overlay
from coordeval.cli.report import report
from coordeval.cli.score import score, score_and_print
from coordeval.errors import ConfigError, CoordevalError
from coordeval.metrics.names import sentence_model, stored
from coordeval.metrics.names.embedding import EmbeddingNames

APP = typer.Typer()
for verb in (score, compare, check, report, attribute, export, overlay):
    APP.command(verb.__name__)(verb)
APP.command("inspect")(inspect_run)
QUICK = ("--draws", "100", "--coco-draws", "20")


def call(*arguments):
    """Exit code, stdout, and stderr or the fault's line."""
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    if isinstance(result.exception, CoordevalError):
        return result.exception.exit_code, result.stdout, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two runs that write 'sofa' for every couch, and a file that knows the word."""
    monkeypatch.chdir(tmp_path)
    for name, shift in (("a", 0), ("b", 5)):
        folder = tmp_path / name
        folder.mkdir()
        lines = []
        for number in range(6):
            bins = ", ".join(f"<|coord_{k + shift}|>" for k in (0, 0, 500, 500))
            lines.append(
                {
                    "id": f"im{number}",
                    "width": 1000,
                    "height": 1000,
                    "gt": [{"desc": "couch", "bbox_2d": [0, 0, 500, 500]}],
                    "text": f'{{"objects": [{{"desc": "sofa", "bbox_2d": [{bins}]}}]}}',
                }
            )
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "rollouts.jsonl").write_text(text)
        meta = {"format": "coordeval-run/1", "frame": "unit-1000", "status": "complete"}
        (folder / "run.json").write_text(json.dumps(meta))
    (tmp_path / "names.toml").write_text('couch = ["sofa"]\n')
    return tmp_path


def f1(output):
    """F1 at .50 of a JSON document."""
    return json.loads(output)["metrics"]["f1/0.50/f1"]


def test_score_prints_and_stores_every_mapping(world):
    """The table stands in the terminal, the list in the score folder, the words in the heading."""
    code, out, _ = call("score", "a", "--synonyms", "names.toml")
    assert code == 0
    assert "names: synonyms (1 class" in out
    assert [word for line in out.splitlines() if "sofa" in line for word in line.split()] == [
        *("sofa", "couch", "synonym", "6", "0")
    ]
    listed = json.loads((world / "a/score/name_mapping.json").read_text())["names"]
    assert [(row["name"], row["class"], row["count"]) for row in listed] == [("sofa", "couch", 6)]


def test_every_command_that_scores_takes_them(world):
    """score, compare, check, report, attribute, inspect, export: sofa is couch in all of them."""
    given = ("--synonyms", "names.toml")
    assert f1(call("score", "a", "--json")[1]) == 0.0
    assert f1(call("score", "a", "--json", *given)[1]) == 1.0
    code, out, _ = call("compare", "a", "b", "--json", *QUICK, *given)
    assert code == 0
    assert json.loads(out)["runs"][1]["metrics"]["f1/0.50/f1"] == 1.0
    assert "synonym" in json.loads(out)["protocol"]["names"]
    gate = ("--gate", "f1/0.50/f1>=1")
    assert [call("check", "a", *gate, *more)[0] for more in ((), given)] == [1, 0]
    code, out, _ = call("attribute", "a", "--json", "--against", "b", *given)
    assert code == 0
    document = json.loads(out)
    assert document["against"][0]["other"]["f1/0.50/f1"] == 1.0
    code, out, _ = call("inspect", "a", "im0", "--json", *given)
    assert '"right"' in out
    assert call("export", "a", "--to", "coco", "-o", "out", *given)[0] == 0
    assert len(json.loads((world / "out/results.json").read_text())) == 6


def test_the_report_lists_the_names(world):
    """The page says how names were matched and what each became, and compares both runs alike."""
    code, _, _ = call("report", "a", "b", "--synonyms", "names.toml", "-o", "r.html")
    assert code == 0
    page = (world / "r.html").read_text()
    assert page.count('<details class="names">') == 2
    assert "No changes between the runs are given" not in page
    assert call("report", "a", "-o", "plain.html")[0] == 0
    assert '<details class="names">' not in (world / "plain.html").read_text()


def test_names_on_the_page_are_text(world):
    """A name that is markup or turns the reading direction round stays visible text."""
    path = world / "a/rollouts.jsonl"
    path.write_text(path.read_text().replace('\\"sofa\\"', '\\"<b>x\u202e</b>\\"'))
    assert call("report", "a", "--synonyms", "names.toml", "-o", "r.html")[0] == 0
    page = (world / "r.html").read_text()
    section = page[page.index('<details class="names">') :].split("</details>")[0]
    assert "&lt;b&gt;x\\u202e&lt;/b&gt;" in section
    assert "<b>" not in section


def test_compare_refuses_scores_under_other_mappings(world):
    """Stored scores that match names otherwise are another protocol: exit 4, and how to mend it."""
    call("score", "a", "--synonyms", "names.toml")
    call("score", "b")
    code, _, error = call("compare", "a", "b", *QUICK)
    assert code == 4
    assert "other ways of matching names" in error
    assert "a: synonyms (1 class" in error
    assert "b: equal names only" in error
    assert call("compare", "a", "b", *QUICK, "--allow-mismatch")[0] == 0
    assert call("compare", "a", "b", *QUICK, "--synonyms", "names.toml")[0] == 0
    code, out, _ = call("compare", "a", "b", *QUICK, "--protocol", "coordeval", "--json")
    assert code == 0
    assert "names" not in json.loads(out)["protocol"]


def test_compare_takes_over_the_mapping_of_the_stored_scores(world):
    """Scored alike, runs are compared as they were scored, though the file is gone."""
    for name in "ab":
        call("score", name, "--synonyms", "names.toml")
    (world / "names.toml").unlink()
    code, out, _ = call("compare", "a", "b", *QUICK, "--json")
    assert code == 0
    assert json.loads(out)["runs"][0]["metrics"]["f1/0.50/f1"] == 1.0


def test_a_baseline_under_another_mapping_is_not_comparable(world):
    """Check holds a run only against a baseline of the same way of matching names."""
    given = ("--synonyms", "names.toml")
    assert call("check", "a", "--baseline", "b.json", "--update-baseline", *given)[0] == 0
    gate = ("--baseline", "b.json", "--gate", "f1/0.50/f1:-1pt")
    assert call("check", "a", *gate, *given)[0] == 0
    code, _, error = call("check", "a", *gate)
    assert code == 4
    assert "names" in error


def test_coordeval_toml_sets_the_file(world):
    """`synonyms` there holds for every command, relative to the file; the option overrides it."""
    (world / "coordeval.toml").write_text('synonyms = "names.toml"\n')
    (world / "other.txt").write_text("couch: canape\n")
    assert f1(call("score", "a", "--json")[1]) == 1.0
    assert call("check", "a", "--gate", "f1/0.50/f1>=1")[0] == 0
    assert f1(call("score", "a", "--json", "--synonyms", "other.txt")[1]) == 0.0
    # What a rollout prints and stores at its end is what `score` would.
    assert score_and_print(world / "a", json_output=True).metrics["f1/0.50/f1"] == 1.0


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('couch = ["sofa"]\nbed = ["sofa"]', "'sofa' stands for both 'couch' and 'bed'"),
        ("x", "s.toml"),
    ],
)
def test_contradictions_end_with_one_line_and_exit_2(world, text, match):
    """A name for two classes, or a file that is none."""
    (world / "s.toml").write_text(text)
    for verb in (("score", "a"), ("check", "a"), ("compare", "a", "b"), ("attribute", "a")):
        code, _, error = call(*verb, "--synonyms", "s.toml")
        assert code == 2
        assert match in error
        assert "\n" not in error.strip()


def test_a_group_without_a_class_is_one_warning_line(world):
    """Every command that scores names group and line on stderr, once, and goes on."""
    (world / "s.txt").write_text("couch: sofa\n\nzebra: stripy horse\n")
    given = ("--synonyms", "s.txt")
    said = "warning: s.txt: a group of synonyms holds no class of the dataset: 'zebra' (line 3)\n"
    for verb in (
        ("score", "a"),
        ("check", "a", "--gate", "f1/0.50/f1>=1"),
        ("attribute", "a"),
        ("inspect", "a"),
        ("export", "a", "--to", "csv", "-o", "o.csv"),
        ("overlay", "a", "im0", "-o", "o.svg"),
        ("report", "a", "-o", "r.html"),
    ):
        code, out, err = call(*verb, *given)
        assert (code, err.count(said), said in out) == (0, 1, False), verb
    (note,) = json.loads(call("compare", "a", "b", "--json", *QUICK, *given)[1])["notes"]
    assert f"warning: {note}\n" == said
    assert "'zebra' (line 3)" in call("compare", "a", "b", *QUICK, *given)[1].replace("\n", " ")
    assert "warning" not in call("score", "a", "--synonyms", "names.toml")[2]


@pytest.fixture
def stand_in(monkeypatch):
    """A model by which every name is like 'couch', at a similarity that its name says."""

    def load(name, *, threshold=0.6):
        cosine = float(name)

        def embed(texts):
            return [
                (1, 0) if text == "couch" else (cosine, (1 - cosine**2) ** 0.5) for text in texts
            ]

        return EmbeddingNames(embed, model=name, sha256=name * 4, threshold=threshold)

    monkeypatch.setattr(sentence_model, "load_sentence_model", load)
    monkeypatch.setattr(stored, "load_sentence_model", load)


def test_semantic_matching_is_stored_with_model_and_threshold(world, stand_in):
    """Model, hash and threshold stand in the protocol, the similarity with each name."""
    code, out, _ = call("score", "a", "--semantic", "0.75", "--json")
    assert (code, f1(out)) == (0, 1.0)
    assert json.loads(out)["protocol"]["names"]["embedding"] == {
        "model": "0.75",
        "sha256": "0.75" * 4,
        "threshold": 0.6,
        "backend": None,
    }
    (row,) = json.loads((world / "a/score/name_mapping.json").read_text())["names"]
    assert (row["by"], row["similarity"]) == ("embedding", 0.75)
    high = ("--semantic", "0.75", "--semantic-threshold", "0.8")
    assert f1(call("score", "a", *high, "--json")[1]) == 0.0
    assert call("score", "b", "--semantic", "0.75")[0] == 0
    code, _, error = call("compare", "a", "b", *QUICK)
    assert code == 4
    assert "threshold 0.8" in error
    call("score", "a", "--semantic", "0.75")
    assert call("compare", "a", "b", *QUICK)[0] == 0


def test_a_model_is_known_by_its_hash(world, monkeypatch):
    """The same model in another folder is the same way of matching, for compare and baselines."""

    def load(name, *, threshold=0.6):
        if name == "gone":
            raise ConfigError("gone: no such model folder")
        return EmbeddingNames(
            lambda texts: [(1.0, 0.0)] * len(texts), model=name, sha256="s", threshold=threshold
        )

    monkeypatch.setattr(sentence_model, "load_sentence_model", load)
    monkeypatch.setattr(stored, "load_sentence_model", load)
    assert call("score", "a", "--semantic", "here/m")[0] == 0
    assert call("score", "b", "--semantic", "there/m")[0] == 0
    code, out, err = call("compare", "a", "b", "--json", *QUICK)
    assert code == 0, err
    assert json.loads(out)["protocol"]["names"]["embedding"]["sha256"] == "s"
    made = ("check", "a", "--baseline", "base.json")
    assert call(*made, "--update-baseline", "--semantic", "here/m")[0] == 0
    gate = ("--gate", "f1/0.50/f1:-1pt")
    assert call(*made, *gate, "--semantic", "there/m")[0] == 0
    other = ("--semantic", "there/m", "--semantic-threshold", "0.7")
    assert call(*made, *gate, *other)[0] == 4
    for run in ("a", "b"):
        assert call("score", run, "--semantic", "there/m")[0] == 0
        path = world / run / "score/metrics.json"
        path.write_text(path.read_text().replace('"there/m"', '"gone"'))
    code, _, error = call("compare", "a", "b", *QUICK)
    assert code == 2
    assert "score: its names were matched by a sentence model that cannot be had again" in error


def test_coordexp_takes_a_model(world, stand_in):
    """`--protocol coordexp --semantic MODEL` is what the original did."""
    code, out, _ = call("score", "a", "--protocol", "coordexp", "--semantic", "0.75", "--json")
    assert code == 0
    assert f1(out) == 1.0
    assert (world / "a/score@coordexp/name_mapping.json").is_file()


def test_a_threshold_needs_a_model(world):
    """The option alone is a mistake, and said to be one."""
    code, _, error = call("score", "a", "--semantic-threshold", "0.5")
    assert (code, error) == (2, "--semantic-threshold needs --semantic MODEL")
