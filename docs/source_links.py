"""Links from a page to files outside docs/ hold in the repository; on the site they become the files' names.

A link to a file that does not exist stays as it is, so that ``mkdocs build --strict`` refuses it.
"""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]*\.\./[^)#\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """mkdocs calls it with every page before it is rendered."""
    docs = Path(config["docs_dir"])
    folder = (docs / page.file.src_uri).parent

    def name(link: re.Match[str]) -> str:
        label, target = link.groups()
        file = (folder / target).resolve()
        if file.is_relative_to(docs) or not file.exists():
            return link[0]
        path = f"`{file.relative_to(docs.parent)}`"
        return path if label.startswith("`") else f"{label} ({path})"

    return LINK.sub(name, markdown)
