"""Control of generation: the grammar, the coordinate masks and the loop guard."""
