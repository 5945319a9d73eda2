"""An evaluation that a stop of the training cuts short says what it is: interrupted, not failed."""

import json

import pytest
from live_training import callback, make_trainer, tiny_model


@pytest.mark.slow
@pytest.mark.parametrize("finished", [0, 2])
def test_a_stopped_evaluation_is_interrupted_and_then_complete(finished, tmp_path):
    """run.json says `interrupted` with what is done; the resumed training completes the same run."""
    asked, notes = [], []

    def stopped():
        asked.append(1)
        return len(asked) > 1 + finished

    options = {"every": 1, "batch_size": 1, "notify": notes.append, "at_end": False}
    args = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    model = tiny_model()
    make_trainer(tmp_path, model, [callback(model, stopped=stopped, **options)], **args).train()
    meta = tmp_path / "eval" / "step_000001" / "run.json"
    before = json.loads(meta.read_text())
    assert before["status"] == "interrupted"
    assert before["counts"]["finished"] == finished
    assert [note for note in notes if "was stopped" in note and "failed" not in note]
    model = tiny_model()
    trainer = make_trainer(tmp_path, model, [callback(model, **options)], **args)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    after = json.loads(meta.read_text())
    assert (after["status"], after["counts"]["finished"]) == ("complete", 4)
    assert after["created"] == before["created"]
