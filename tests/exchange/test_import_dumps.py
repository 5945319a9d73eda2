"""Monitor dumps and raw rollouts to run directories: nothing lost, nothing guessed, all counted."""

import json

import pytest

from coordeval.errors import ConfigError, DataError, RunIncomplete, RunMismatchError
from coordeval.exchange.importing import ImportOptions, import_dumps
from coordeval.metrics.score import score_run
from coordeval.runs import open_run


def box(*bins):
    return "[" + ", ".join(f"<|coord_{k}|>" for k in bins) + "]"


def text(*records):
    return '{"objects": [' + ", ".join(records) + "]}"


CAT = f'{{"desc": "cat", "bbox_2d": {box(0, 0, 999, 999)}}}'
BAD = '{"desc": "dog", "bbox_2d": [第九, <|coord_2|>, <|coord_3|>, <|coord_4|>]}'
DRIFT = f'{{"desc": "dog", "bbox_3d": {box(1, 2, 3, 4)}}}'


def sample(name="a", written=None, **changes):
    base = {
        "sample_id": name,
        "image": f"images/{name}.jpg",
        "width": 101,
        "height": 51,
        "messages": [{"role": "user", "content": "find"}],
        "rollout_text": text(CAT) + "<|im_end|>" if written is None else written,
        "gt_objects": [
            {"index": 0, "geom_type": "bbox_2d", "points_norm1000": [0, 0, 999, 999], "desc": "cat"}
        ],
        "pred_objects": [],
        "stats": {"parse_dropped_invalid": 0, "parse_truncated": False},
    }
    return base | changes


def dump(folder, step, *samples, **more):
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "global_step": step,
        "meta": {"decode_mode": "greedy", "max_new_tokens": 3084},
        "metrics": {"eval/rollout/f1": 0.5},
        "samples": list(samples),
    } | more
    path = folder / f"step_{step:06d}.json"
    path.write_text(json.dumps(document))
    return path


def run_import(out, *sources, **options):
    return import_dumps(ImportOptions(sources=sources, out=out, **options))


def test_a_dump_becomes_a_run_that_scores(tmp_path):
    """Text verbatim without its end token, ground truth from bins to pixels, settings kept."""
    path = dump(tmp_path, 300, sample())
    summary = run_import(tmp_path / "run", path)
    run = open_run(tmp_path / "run")
    (rollout,) = run.rollouts()
    assert rollout.text == text(CAT)
    assert rollout.finish_reason == "stop"
    assert rollout.gt[0].values_px == (0.0, 0.0, 100.0, 50.0)
    assert run.meta["decode"]["max_new_tokens"] == 3084
    assert run.meta["dumps"]["300"]["metrics"] == {"eval/rollout/f1": 0.5}
    assert (summary.read, summary.written, run.meta["status"]) == (1, 1, "complete")
    assert score_run(run).metrics["f1/0.50/f1"] == 1.0


def test_everything_else_of_a_sample_is_kept(tmp_path):
    """What the dump reported, and all metadata, stand in imported.jsonl under the rollout's id."""
    path = dump(tmp_path, 300, sample(match={"matched_pairs": [[0, 0]]}, custom={"x": 1}))
    run_import(tmp_path / "run", path)
    (line,) = (tmp_path / "run" / "imported.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["id"] == "a"
    assert row["reported"]["stats"] == {"parse_dropped_invalid": 0, "parse_truncated": False}
    assert row["reported"]["match"] == {"matched_pairs": [[0, 0]]}
    assert row["metadata"]["custom"] == {"x": 1}
    assert row["metadata"]["messages"][0]["role"] == "user"


def test_reported_reasons_are_checked_against_the_texts(tmp_path):
    """Counts agree where the dump is right; a dump that is wrong is named with both numbers."""
    stats = {
        "parse_dropped_invalid": 2,
        "parse_dropped_invalid_by_reason": {"wrong_arity": 1, "unexpected_keys": 1},
    }
    wrong = {"parse_dropped_invalid": 5, "parse_dropped_invalid_by_reason": {"wrong_arity": 5}}
    path = dump(
        tmp_path,
        1,
        sample("right", text(CAT, BAD, DRIFT), stats=stats),
        sample("liar", text(CAT, BAD), stats=wrong),
    )
    check = run_import(tmp_path / "run", path).cross_check
    assert (check.samples, check.agreeing) == (2, 1)
    assert check.differing == [("liar", 5, 1)]
    assert check.by_reason()["unexpected_keys"] == {"reported": 1, "found": 1}
    assert check.by_reason()["wrong_arity"] == {"reported": 6, "found": 2}


def test_truncated_tails_do_not_count_as_disagreement(tmp_path):
    """Other tools report the cut record apart from dropped ones."""
    cut = text(CAT)[:-2] + ', {"desc": "dog", "bbox_2d": [<|coord_1|>'
    stats = {"parse_dropped_invalid": 0, "parse_truncated": True}
    path = dump(tmp_path, 1, sample(written=cut, stats=stats))
    summary = run_import(tmp_path / "run", path)
    assert summary.cross_check.agreeing == 1
    (rollout,) = open_run(tmp_path / "run").rollouts()
    assert rollout.finish_reason == "length"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rollout_text": None}, "no_verbatim_text"),
        ({"width": 0}, "no_size"),
        ({"gt_objects": "none"}, "no_ground_truth"),
        (
            {"gt_objects": [{"geom_type": "cube", "points_norm1000": [1], "desc": "x"}]},
            "bad_ground_truth",
        ),
        (
            {
                "gt_objects": [
                    {"geom_type": "bbox_2d", "points_norm1000": [1, 2, 3, 5000], "desc": "x"}
                ]
            },
            "bad_ground_truth",
        ),
        (
            {"gt_objects": [{"geom_type": "bbox_2d", "points": [1, 2, 3, 4], "desc": "x"}]},
            "undeclared_coordinates",
        ),
    ],
)
def test_what_cannot_be_imported_is_counted_under_its_reason(tmp_path, changes, reason):
    """One bad sample is left out, counted and explained; the good one is imported."""
    path = dump(tmp_path, 1, sample("bad", **changes), sample("good"))
    summary = run_import(tmp_path / "run", path)
    assert dict(summary.left_out) == {reason: 1}
    assert "step_000001.json[0]" in summary.examples[reason][0]
    assert summary.read == summary.written + sum(summary.left_out.values()) + summary.copies
    run = open_run(tmp_path / "run")
    assert run.meta["status"] == "partial"
    assert [rollout.id for rollout in run.rollouts()] == ["good"]


def test_nothing_importable_is_exit_code_3(tmp_path):
    """An import without a single sample is no success, and leaves no run behind."""
    path = dump(tmp_path, 1, sample(rollout_text=None), 7)
    with pytest.raises(RunIncomplete, match=r"no_verbatim_text|not_an_object"):
        run_import(tmp_path / "run", path)
    assert not (tmp_path / "run").exists()


def test_several_steps_get_ids_of_their_own(tmp_path):
    """The same sample at two steps is two rollouts; --step takes one of them."""
    folder = tmp_path / "out" / "monitor_dumps"
    dump(folder, 300, sample())
    dump(folder, 2400, sample(written=text(BAD)))
    summary = run_import(tmp_path / "both", tmp_path / "out")
    assert summary.steps == [300, 2400]
    ids = [rollout.id for rollout in open_run(tmp_path / "both").rollouts()]
    assert ids == ["step-300/a", "step-2400/a"]
    run_import(tmp_path / "one", tmp_path / "out", step=2400)
    run = open_run(tmp_path / "one")
    assert [rollout.id for rollout in run.rollouts()] == ["a"]
    assert run.meta["checkpoint"]["name"] == "out-step-2400"
    assert run.meta["step"] == 2400


def test_copies_from_other_ranks_are_written_once(tmp_path):
    """Equal samples are counted as copies; the same id with another text gets a suffix."""
    path = dump(tmp_path, 1, sample(), sample(), sample(written=text()))
    summary = run_import(tmp_path / "run", path)
    assert (summary.written, summary.copies) == (2, 1)
    assert [r.id for r in open_run(tmp_path / "run").rollouts()] == ["a", "a#2"]


def test_importing_again_changes_nothing_and_other_dumps_are_refused(tmp_path):
    """The same dumps give the same run; another dump may not be mixed in."""
    path = dump(tmp_path, 1, sample())
    run_import(tmp_path / "run", path)
    before = (tmp_path / "run" / "rollouts.jsonl").read_bytes()
    run_import(tmp_path / "run", path)
    assert (tmp_path / "run" / "rollouts.jsonl").read_bytes() == before
    other = dump(tmp_path / "x", 1, sample("b"))
    with pytest.raises(RunMismatchError):
        run_import(tmp_path / "run", other)


@pytest.mark.parametrize(
    ("tail", "kept", "finish"),
    [
        ("<|im_end|>", "", "stop"),
        ("<|im_end|><|endoftext|><|endoftext|>", "", "stop"),
        ("<|im_end|> and more", "<|im_end|> and more", None),
        ("", "", None),
    ],
)
def test_only_one_final_end_token_and_padding_go(tmp_path, tail, kept, finish):
    """Text behind the end token stays; padding of a batch is no output."""
    path = dump(tmp_path, 1, sample(written=text(CAT) + tail))
    run_import(tmp_path / "run", path)
    (rollout,) = open_run(tmp_path / "run").rollouts()
    assert (rollout.text, rollout.finish_reason) == (text(CAT) + kept, finish)


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def gt_row(**changes):
    base = {
        "image": "a.jpg",
        "width": 100,
        "height": 100,
        "coord_mode": "pixel",
        "gt": [{"type": "poly", "points": [0, 0, 50, 0, 50, 50], "desc": "cat"}],
        "pred": [],
        "raw_output_json": {"objects": []},
        "errors": [],
    }
    return base | changes


def test_rows_with_parsed_payload_only_have_no_verbatim_text(tmp_path):
    """A parsed payload is not what the model wrote; a string is; pixels stay pixels."""
    path = write_rows(
        tmp_path / "gt_vs_pred.jsonl",
        gt_row(),
        gt_row(image="b.jpg", raw_output_json="not json {"),
        gt_row(image="c.jpg", errors=["generation_failed"]),
    )
    summary = run_import(tmp_path / "run", path)
    assert dict(summary.left_out) == {"no_verbatim_text": 1}
    written, failed = open_run(tmp_path / "run").rollouts()
    assert written.text == "not json {"
    assert written.gt[0].values_px == (0.0, 0.0, 50.0, 0.0, 50.0, 50.0)
    assert (failed.finish_reason, failed.error) == ("error", "generation_failed")


def test_a_token_trace_beside_the_rows_is_the_verbatim_text(tmp_path):
    """Joined token texts stand for their line, end token and padding removed."""
    path = write_rows(tmp_path / "gt_vs_pred.jsonl", gt_row(), gt_row(image="b.jpg"))
    tokens = [text(CAT), "<|im_end|>", "<|endoftext|>"]
    trace = {"line_idx": 1, "generated_token_text": tokens, "token_logprobs": [0.0] * 3}
    write_rows(tmp_path / "pred_token_trace.jsonl", trace)
    summary = run_import(tmp_path / "run", path)
    (rollout,) = open_run(tmp_path / "run").rollouts()
    assert (rollout.id, rollout.text, rollout.finish_reason) == ("b.jpg", text(CAT), "stop")
    assert summary.left_out["no_verbatim_text"] == 1


def test_undeclared_pixels_can_be_declared(tmp_path):
    """`--gt-space` says what the dump does not; another word is refused."""
    path = write_rows(tmp_path / "rows.jsonl", gt_row(coord_mode=None, text=text()))
    with pytest.raises(RunIncomplete, match="--gt-space"):
        run_import(tmp_path / "run", path)
    run_import(tmp_path / "run", path, gt_space="pixels")
    with pytest.raises(ConfigError, match="--gt-space"):
        run_import(tmp_path / "run2", path, gt_space="inches")


@pytest.mark.parametrize(
    "content", ["{", "[" * 100_000, '{"samples": 3}', '{"no": 1}', "\x80\x04N."]
)
def test_broken_documents_are_one_clear_error(tmp_path, content):
    """Damaged, hostile or foreign files never crash, and a pickle is not even looked at."""
    path = tmp_path / "step_000001.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match="step_000001"):
        run_import(tmp_path / "run", path)


def test_links_in_a_dump_folder_are_not_followed(tmp_path):
    """A dump folder cannot pull in files from elsewhere."""
    target = dump(tmp_path / "elsewhere", 1, sample())
    folder = tmp_path / "monitor_dumps"
    folder.mkdir()
    (folder / "step_000001.json").symlink_to(target)
    with pytest.raises(DataError, match="nothing to import"):
        run_import(tmp_path / "run", folder)


def test_hostile_values_cost_only_their_sample(tmp_path):
    """Odd types everywhere: the import ends, and all samples are accounted for."""
    odd = [None, [], {}, "x", -1, 1e400, True, [[1]], {"a": []}]
    samples = [
        sample(f"{key}-{n}", **{key: value})
        for key in (
            "images",
            "image",
            "stats",
            "errors",
            "match",
            "token_ids",
            "token_logprobs",
            "finish_reason",
            "image_id",
            "gt_objects",
        )
        for n, value in enumerate(odd)
    ]
    path = dump(tmp_path, 1, sample(), *samples)
    summary = run_import(tmp_path / "run", path)
    assert summary.read == len(samples) + 1
    assert summary.read == summary.written + sum(summary.left_out.values()) + summary.copies
    assert len(list(open_run(tmp_path / "run").rollouts())) == summary.written


@pytest.mark.parametrize(
    ("tokens", "remark"),
    [
        ({"token_ids": [5, -100], "token_logprobs": [-0.5, -0.5]}, "token_ids_unusable"),
        ({"response_token_ids": [1 << 40]}, "token_ids_unusable"),
        ({"token_ids": ["a"]}, "token_ids_unusable"),
        ({"token_ids": [5], "token_logprobs": [10**400]}, "logprobs_unusable"),
        ({"token_ids": [5], "token_logprobs": [float("nan")]}, "logprobs_unusable"),
    ],
)
def test_tokens_that_no_run_can_hold_are_left_out_with_a_remark(tmp_path, tokens, remark):
    """They are counted, and what is written can be scored."""
    summary = run_import(tmp_path / "run", dump(tmp_path, 1, sample(**tokens)))
    assert summary.remarks[remark] == 1
    assert score_run(open_run(tmp_path / "run")).metrics["samples/total"] == 1


@pytest.mark.parametrize("value", ["half a pair \ud800", 10**30, float("nan")])
def test_a_dump_may_say_anything_of_itself(tmp_path, value):
    """Half a surrogate pair, a huge number or NaN beside the samples is stored, and imports."""
    source = dump(tmp_path, 1, sample(), meta={"note": value})
    for _ in range(2):  # the second time the run stands there already
        run_import(tmp_path / "run", source, checkpoint="name \udcff")
    assert score_run(open_run(tmp_path / "run")).metrics["samples/total"] == 1
