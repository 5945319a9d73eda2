"""The rows of the coordinate tokens as parameters of their own, inside tables that stay whole.

The rows live in embedding and head, which are shared with all other tokens. For the optimizer they
are copied out into a small parameter: before a step it takes over the rows' values and gradients,
after it the rows are written back. Their learning rate, momentum and decay are then exactly those
of a parameter of their own, and the optimizer's state is as small as the rows. What is left of the
table sees a gradient of 0 at these rows (or none at all, where only the rows learn).

Shapes: K coordinate tokens, V rows of a table, H hidden width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class CoordRows:
    """The coordinate rows of one table; `rows_KH` is the parameter that an optimizer is given."""

    def __init__(self, table_VH: nn.Parameter, ids_K: Tensor, *, alone: bool = False) -> None:
        """`alone`: nothing else learns; gradients of all other rows then count nowhere."""
        self.table_VH = table_VH
        self._ids_K = ids_K.to(table_VH.device)
        self.rows_KH = nn.Parameter(table_VH.detach()[self._ids_K].clone())
        if alone:
            self._mask_gradient()

    def follow_table(self) -> None:
        """Move to the device that the table has been moved to; the parameter stays the same."""
        device = self.table_VH.device
        self._ids_K = self._ids_K.to(device)
        self.rows_KH.data = self.rows_KH.data.to(device)

    @torch.no_grad()
    def take(self) -> None:
        """Take over values and gradients from the table, whose own gradient there becomes 0."""
        self.rows_KH.copy_(self.table_VH[self._ids_K])
        if self.table_VH.grad is None:
            self.rows_KH.grad = None
            return
        self.rows_KH.grad = self.table_VH.grad[self._ids_K].clone()
        self.table_VH.grad[self._ids_K] = 0

    @torch.no_grad()
    def put(self) -> None:
        """Write the rows back, whatever the table's own optimizer did to them."""
        self.table_VH[self._ids_K] = self.rows_KH
        self.rows_KH.grad = None

    def _mask_gradient(self) -> None:
        """Let the gradient of all other rows be 0, for norms and clipping as well."""

        def only_rows(gradient_VH: Tensor) -> Tensor:
            out_VH = torch.zeros_like(gradient_VH)
            out_VH[self._ids_K] = gradient_VH[self._ids_K]
            return out_VH

        self.table_VH.register_hook(only_rows)  # type: ignore[no-untyped-call]


def tables_of(model: Any) -> list[nn.Parameter]:
    """The tables with a row per token: embedding, and the head's where it is another one.

    Raises ConfigError for a model that hides them (sharded or adapted in a way of its own).
    """
    tables: list[nn.Parameter] = []
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        table = getattr(module, "weight", None)
        if type(table) is not nn.Parameter or table.ndim != 2:
            raise ConfigError(
                "tune: the rows of the coordinate tokens cannot be told from the rest in a model "
                "whose tables are sharded or wrapped; train without FSDP, ZeRO and coord_rows"
            )
        if all(table is not known for known in tables):
            tables.append(table)
    return tables


def coord_rows(
    model: Any, ids_K: Sequence[int] | Tensor, *, alone: bool = False
) -> list[CoordRows]:
    """The coordinate rows of every table of a model; see `CoordRows`."""
    ids = torch.as_tensor(ids_K, dtype=torch.long)
    return [CoordRows(table, ids, alone=alone) for table in tables_of(model)]


def train_rows_only(model: Any) -> None:
    """Freeze everything but the tables, whose gradients carry those of the rows."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for table in tables_of(model):
        table.requires_grad_(True)


__all__ = ["CoordRows", "coord_rows", "tables_of", "train_rows_only"]
