"""Links from a page to files outside docs/ hold in the repository; on the site they lead to the file's API page.

A file without one becomes its name. A link to a file that does not exist stays as it is, so that
``mkdocs build --strict`` refuses it.
"""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]*\.\./[^)#\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """mkdocs calls it with every page before it is rendered."""
    docs = Path(config["docs_dir"])
    folder = (docs / page.file.src_uri).parent

    def link_on_site(link: re.Match[str]) -> str:
        label, target = link.groups()
        file = (folder / target).resolve()
        if file.is_relative_to(docs) or not file.exists():
            return link[0]
        path = file.relative_to(docs.parent)
        module = path.with_suffix("").parts[1:]  # without src/
        if path.parts[:2] == ("src", "selfie") and (docs / "api" / f"{module[1]}.md").exists():
            return f"[{label}][{'.'.join(module).removesuffix('.__init__')}]"
        return f"`{path}`" if label.startswith("`") else f"{label} (`{path}`)"

    return LINK.sub(link_on_site, markdown)
