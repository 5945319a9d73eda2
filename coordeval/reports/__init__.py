"""Numbers to people: terminal, pages, charts, overlays, Markdown and JUnit."""
