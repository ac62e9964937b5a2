"""HTML pages that need no network and no other file, made of the templates in templates/."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

__all__ = ["embed_image", "render_page"]


def render_page(template: str, **facts: Any) -> str:
    """Return a page as HTML.

    Args:
        template: file in templates/; it extends base.html.
        facts: names that the template uses. Text is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("redepth_ros.viz"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(facts)


def embed_image(path: Path) -> str:
    """Return an image file, .png or .jpg, as a URL that holds its content."""
    kind = {".png": "png", ".jpg": "jpeg"}[path.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
