"""A default English text that every Python brings along."""

from __future__ import annotations

from pathlib import Path

from device_models.errors import StoreError, UsageError


def default_text() -> str:
    """The language reference topics of CPython's own help system, in alphabetical order."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def read_text(path: str | Path) -> str:
    """A UTF-8 text file that is not empty."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    if not text.strip():
        raise UsageError(f"{path}: the text is empty")
    return text
