"""The frame of a report: one HTML file that needs nothing else and fits phones and dark screens."""

import html
from collections.abc import Sequence

from vjepa2.features.demo_files import MARK

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --text: #1d1f23; --soft: #5d6470; --line: #dfe1e6;
  --accent: #2f6fde; --track: #e8ebf1; --good: #1d7f4f; --bad: #b3391f; }
@media (prefers-color-scheme: dark) { :root {
  --page: #131519; --card: #1c1f25; --text: #e9ebef; --soft: #a0a7b4; --line: #343943;
  --accent: #79a8ff; --track: #2b303a; --good: #5fc795; --bad: #ff8b70; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
.soft { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.1rem 1.2rem; margin-top: 1rem; }
.bar { display: grid; grid-template-columns: minmax(0, 15rem) 1fr 4rem; gap: .2rem .8rem;
  align-items: center; margin: .4rem 0; overflow-wrap: anywhere; }
.bar .track { background: var(--track); border-radius: .3rem; height: .9rem; }
.bar .fill { background: var(--accent); border-radius: .3rem; height: 100%; min-width: 2px; }
.bar .number { text-align: right; font-variant-numeric: tabular-nums; }
.answer { font-size: 1.35rem; font-weight: 650; margin: .1rem 0 .3rem; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); }
.strip { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr));
  gap: .35rem; margin: .9rem 0 .3rem; }
figure { margin: 0; }
figcaption { font-size: .8rem; color: var(--soft); text-align: center; padding-top: .15rem;
  font-variant-numeric: tabular-nums; }
img, video { display: block; width: 100%; height: auto; border-radius: .35rem;
  background: var(--track); }
img + img { margin-top: .35rem; }
.film { max-width: 46rem; margin: .6rem auto 0; }
.cells { image-rendering: pixelated; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-top: 1px solid var(--line); overflow-wrap: anywhere; }
tr:first-child > * { border-top: 0; }
th { font-weight: 500; color: var(--soft); overflow-wrap: normal; }
td.number, th.number { text-align: right; white-space: nowrap; padding-right: 0;
  font-variant-numeric: tabular-nums; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: .4rem;
  padding: .7rem .9rem; overflow-x: auto; font-size: .85rem; line-height: 1.5; }
@media (max-width: 40rem) {
  .strip { --columns: 4 !important; }
  section { padding: .9rem; }
  .bar { grid-template-columns: 1fr 4rem; margin: .6rem 0; }
  .bar .name { grid-area: 1 / 1; } .bar .number { grid-area: 1 / 2; }
  .bar .track { grid-area: 2 / 1 / 3 / 3; }
  th, td { padding-right: .5rem; }
}
"""

# Nothing may be loaded from anywhere: the page is complete, and stays so when it is passed on.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def escape(text: object) -> str:
    """Text as it may stand in HTML; bytes of file names that are no text become escapes."""
    plain = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return html.escape(plain)


def page(*, title: str, body: str) -> str:
    """A whole HTML document; `title` is text, `body` is HTML."""
    return (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="{MARK}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A card with a heading; `parts` are HTML."""
    inside = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>"


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bars(rows: list[tuple[str, float]]) -> str:
    """Names with values 0..1 as bars and per cent."""
    lines = [
        f'<div class="bar"><div class="name">{escape(name)}</div>'
        f'<div class="track"><div class="fill" style="width:{100 * value:.1f}%"></div></div>'
        f'<div class="number">{100 * value:.1f} %</div></div>'
        for name, value in rows
    ]
    return "\n".join(lines)


def table(rows: Sequence[tuple[str, ...]], *, heads: tuple[str, ...] = ()) -> str:
    """Rows of text; the first cell names the row, and with `heads` the last one is a number."""
    lines = []
    if heads:
        cells = [f"<th>{escape(head)}</th>" for head in heads[:-1]]
        lines.append(f'<tr>{"".join(cells)}<th class="number">{escape(heads[-1])}</th></tr>')
    for first, *others in rows:
        kinds = [""] * len(others)
        if heads:
            kinds[-1] = ' class="number"'
        cells = [f"<td{kind}>{escape(text)}</td>" for kind, text in zip(kinds, others, strict=True)]
        lines.append(f"<tr><th>{escape(first)}</th>{''.join(cells)}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def picture(address: str, *, description: str, kind: str = "") -> str:
    """An image whose `address` is a data URI."""
    name = f' class="{kind}"' if kind else ""
    return f'<img{name} src="{address}" alt="{escape(description)}">'


def film(address: str, *, caption: str) -> str:
    """A silent film in a loop whose `address` is a data URI."""
    return (
        f'<figure class="film"><video src="{address}" autoplay loop muted playsinline controls>'
        "</video>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def figure(*images: str, caption: str) -> str:
    """Images above each other, with a caption; `images` are HTML."""
    return f"<figure>{''.join(images)}<figcaption>{escape(caption)}</figcaption></figure>"


def code(text: str) -> str:
    """Lines to be typed."""
    return f"<pre>{escape(text)}</pre>"
