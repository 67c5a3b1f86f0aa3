"""The examples of the documentation: blocks of code by their place on a page, for tests to run."""

import re

from conftest import PROJECT


def blocks(page: str, heading: str, language: str) -> list[str]:
    """The blocks of code in `language` of a section of docs/`page`, in order."""
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"docs/{page} has no section {heading!r}"
    return re.findall(rf"^```{language}\n(.*?)^```$", found.group(1), re.MULTILINE | re.DOTALL)


def example(page: str, heading: str, language: str) -> str:
    """The only such block."""
    (block,) = blocks(page, heading, language)
    return block
