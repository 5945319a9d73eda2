"""The order in which positions are worked on, and how it is cut into chunks."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.training.losses.row_plan import IGNORED, PositionTable

COORD_IDS = torch.arange(100, 150)
END_ID = 7


@settings(max_examples=150, deadline=None)
@given(
    text=st.integers(0, 9),
    boxes=st.integers(0, 5),
    lone=st.integers(0, 7),
    size=st.integers(1, 30),
    seed=st.integers(0, 100),
)
def test_chunks_cover_everything_once_and_cut_no_box(text, boxes, lone, size, seed):
    """Any mix and chunk size: all rows in their order, boxes whole, no chunk larger than asked."""
    generator = torch.Generator().manual_seed(seed)
    count = text + 4 * boxes + lone + 3
    order = torch.randperm(count, generator=generator)
    labels = torch.full((count,), IGNORED)
    labels[order[:text]] = 5
    labels[order[text : text + 4 * boxes + lone]] = 120
    box_slots = order[text : text + 4 * boxes].reshape(boxes, 4)
    table = PositionTable(COORD_IDS, torch.tensor([END_ID]))
    plan = table.plan(labels, box_slots, text=True, slots=True)
    assert (len(plan), plan.num_text, plan.num_boxes) == (count - 3, text, boxes)
    assert torch.equal(plan.rows_R[text : text + 4 * boxes].reshape(boxes, 4), box_slots)
    parts = list(plan.chunks(size))
    assert all(0 < len(part) <= max(size, 4) for part in parts)
    assert sum(part.num_text for part in parts) == text
    assert sum(part.num_boxes for part in parts) == boxes
    whole = torch.cat([part.rows_R for part in parts]) if parts else plan.rows_R
    assert torch.equal(whole, plan.rows_R)
    found = [
        part.rows_R[part.num_text : part.num_text + 4 * part.num_boxes].reshape(-1, 4)
        for part in parts
    ]
    assert torch.equal(torch.cat([*found, box_slots[:0]]), box_slots)


def test_positions_are_told_apart_by_labels_alone():
    """Coordinates have bins, end tokens have no text gate, ignored and unknown ids no bin."""
    table = PositionTable(COORD_IDS.flip(0), torch.tensor([END_ID, 10_000]))
    labels = torch.tensor([IGNORED, 3, END_ID, 149, 100, 99, 150, 10_000, 99_999])
    assert table.bins(labels).tolist() == [-1, -1, -1, 0, 49, -1, -1, -1, -1]
    expected = [False, True, False, False, False, True, True, False, True]
    assert table.gated(labels).tolist() == expected


def test_kinds_that_no_term_asks_for_are_left_out():
    """Only text, or only slots, where nothing else is asked for."""
    table = PositionTable(COORD_IDS, torch.tensor([], dtype=torch.long))
    labels = torch.tensor([5, 101, IGNORED, 102, END_ID])
    assert table.plan(labels, None, text=True, slots=False).rows_R.tolist() == [0, 4]
    assert table.plan(labels, None, text=False, slots=True).rows_R.tolist() == [1, 3]
