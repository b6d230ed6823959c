"""What the documentation site does to its pages: equations become MathML, which browsers show."""

import re
from typing import Any

from latex2mathml.converter import convert

_DISPLAYED = re.compile(r"^\$\$\n(.+?)\n\$\$$", re.MULTILINE | re.DOTALL)
_IN_LINE = re.compile(r"(?<![\\$`\w])\$([^$\n`]+)\$(?![\w$])")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page's text with $...$ and $$ ... $$ turned into MathML; only docs/equations.md has any."""
    if page.file.src_uri != "docs/equations.md":
        return markdown
    markdown = _DISPLAYED.sub(lambda found: convert(found[1], display="block"), markdown)
    return _IN_LINE.sub(lambda found: convert(found[1]), markdown)
