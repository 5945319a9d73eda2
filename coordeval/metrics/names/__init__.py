"""How descriptions find their class: exactly, by synonyms, by sentence embeddings."""
