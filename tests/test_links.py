"""Links of the documentation to files of the repository."""

import re

from conftest import REPO


def test_every_relative_link_leads_somewhere():
    pages = [*REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("results/**/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))]
    dead = [(str(p), link) for p, link in links if "://" not in link and not (p.parent / link).exists()]
    assert len(pages) > 10 and len(links) > 20 and dead == []
