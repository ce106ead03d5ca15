"""A real headless browser, asked what became of a page."""

import base64
import hashlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)


def executable() -> str | None:
    """Find the browser, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Element:
    """One element of the page after its scripts ran."""

    tag: str
    attributes: dict[str, str]
    text: list[str]

    @property
    def words(self) -> str:
        """The text inside, spaces tidied."""
        return " ".join(" ".join(self.text).split())


class Dom(HTMLParser):
    """The dumped page: every element with its attributes and the text inside it."""

    VOID = frozenset({"meta", "link", "input", "br", "wbr", "hr", "img"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag=tag, attributes={name: value or "" for name, value in attrs}, text=[])
        self.elements.append(element)
        if tag not in self.VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text.append(data)

    def by_class(self, name: str) -> list[Element]:
        """List the elements that carry a class."""
        return [element for element in self.elements if name in element.attributes.get("class", "").split()]

    def by_id(self, name: str) -> Element:
        """Return the element with an id."""
        return next(element for element in self.elements if element.attributes.get("id") == name)

    @property
    def root(self) -> dict[str, str]:
        """The attributes of the html element, where the page records its state and its errors."""
        return next(element.attributes for element in self.elements if element.tag == "html")


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """What a visit to a page left: the page itself and what stands in the browser's console."""

    dom: Dom
    console: tuple[str, ...]


def visit(
    html: str, folder: Path, *, address: str = "", size: tuple[int, int] = (1400, 1000), drive: str = ""
) -> Visit:
    """Open a page, let its scripts and an optional script of the test run, and dump what it became."""
    page = folder / "page.html"
    page.write_text(with_script(html, drive) if drive else html, encoding="utf-8")
    done = _run([f"--window-size={size[0]},{size[1]}", "--dump-dom", f"{page.as_uri()}{address}"], folder)
    return Visit(
        dom=Dom(done.stdout), console=tuple(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    )


def screenshot(html: str, folder: Path, size: tuple[int, int] = (1400, 2200)) -> bytes:
    """Take a picture of a page, as PNG."""
    page, picture = folder / "page.html", folder / "page.png"
    page.write_text(html, encoding="utf-8")
    _run([f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", page.as_uri()], folder)
    return picture.read_bytes()


def with_script(html: str, script: str) -> str:
    """Append a script that the page's content security policy is told of."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    told = html.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)
    return told.replace("</body>", f"<script>{script}</script></body>")


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the browser with a profile of its own, and end its whole process group if it hangs."""
    browser = executable()
    assert browser is not None
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
