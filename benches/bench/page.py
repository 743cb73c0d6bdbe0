"""docs/performance.md: what stands between its two markers is the bench's, the rest is written by hand."""

import datetime

from .processes import BenchError
from .setup import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"


def write(machine, tables, plots):
    text = PAGE.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise BenchError(f"{PAGE} needs the markers '{BEGIN}' and '{END}' once each")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    pictures = "\n\n".join(f"![{title}]({file})" for file, title in plots)
    about = f"Measured on {datetime.date.today().isoformat()} with `make bench`: {machine}."
    PAGE.write_text("\n\n".join([head + BEGIN + "\n" + about, pictures, tables]) + f"\n{END}{tail}")
