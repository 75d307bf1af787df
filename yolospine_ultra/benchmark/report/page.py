"""The report as one HTML file: nothing is fetched, everything that comes from files is escaped.

Written for this project. Jinja2 (which torch brings) escapes; a content security policy in the page forbids every
request and every script but its own. Plots are SVG in the page, whose ink follows light and dark.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from yolospine_ultra.benchmark.report.formats import DASH, Column, Table, Value, central, is_text, spread
from yolospine_ultra.benchmark.report.plots import INK, PALE
from yolospine_ultra.benchmark.report.source import Estimate

SCREEN = 1.6  # CSS pixels a point: a figure of a page's width fills the screen's column


@dataclass(frozen=True)
class Picture:
    """A figure of the page: an `svg` that stands in the page, or an `image` as a data URL; `caption` in words.

    `folded` is the heading under which it is folded away, "" where it is not.
    """

    caption: str
    svg: str = ""
    image: str = ""
    folded: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page; `facts` are (title, (name, value) pairs or a text as it is)."""

    id: str
    title: str
    tables: Sequence[dict[str, Any]] = ()
    plots: Sequence[Picture] = ()
    list: Sequence[str] = ()
    facts: Sequence[tuple[str, Sequence[tuple[str, str]] | str]] = field(default=())


def render(**parts: Any) -> str:
    """The page from its parts: title, lede, headline, supported, not_supported, problems, sections."""
    here = files("yolospine_ultra.benchmark.report")
    texts = {k: (here / k).read_text(encoding="utf-8") for k in ("page.html.j2", "page.css", "page.js")}
    script = texts["page.js"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(texts["page.html.j2"])
    return template.render(
        style=Markup(texts["page.css"]), script=Markup(script), script_hash=f"sha256-{digest}", **parts
    )


def page_table(table: Table, ours: str | None, folded: bool = False) -> dict[str, Any]:
    """A table as the template takes it; rows that begin with `ours` are marked, a `folded` one opens on a click."""
    texts = [is_text(table, i) for i in range(len(table.columns))]
    head = [{"label": c.label, "text": t, "printed": c.printed} for c, t in zip(table.columns, texts, strict=True)]
    rows = [
        {
            "ours": ours is not None and row[0] == ours,
            "cells": [_cell(value, table.columns[i], texts[i], table.is_best(r, i)) for i, value in enumerate(row)],
        }
        for r, row in enumerate(table.rows)
    ]
    about = {"name": table.name, "title": table.title, "notes": table.notes, "folded": folded}
    return {**about, "head": head, "rows": rows}


def _cell(value: Value, rule: Column, text: bool, best: bool) -> dict[str, Any]:
    """What the template shows of a value."""
    made = {"shown": DASH, "sort": None, "text": text, "printed": rule.printed, "best": best, "sd": "", "interval": ""}
    if value is None or value == "":
        return made
    if isinstance(value, str):
        return made | {"shown": value, "sort": value}
    made |= {"shown": rule.number(central(value)), "sort": f"{central(value):.10g}"}
    if isinstance(value, Estimate):
        made["sd"], made["interval"] = spread(rule, value)
    return made


def inline_svg(content: bytes, key: str) -> Markup:
    """An SVG of matplotlib as a part of the page: its ids made its own, its ink the page's.

    Args:
        content: the file.
        key: a word that no other figure of the page has.
    """
    text = content.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<style type="text/css">.*?</style>', "", text, count=1, flags=re.DOTALL)
    for mark in ('id="', 'href="#', "url(#"):
        text = text.replace(mark, f"{mark}{key}-")
    width = float(re.search(r' width="([\d.]+)pt"', text)[1])
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = text.replace("<svg", f'<svg style="max-width:{width * SCREEN:.0f}px"', 1)
    return Markup(text.replace(INK, "currentColor").replace(PALE, "var(--rule)"))


def data_url(content: bytes, form: str) -> str:
    """A picture as a URL that holds it."""
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"
