"""Debian's Chromium without a screen: opens a page, waits for what it must show, and hands over its text."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.mlflow_server.programs import need
from tests.waiting import LIMIT, wait_until

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)


class Browser:
    """One window."""

    def __init__(self, driver: Chrome, pictures: Path) -> None:
        self.driver, self.pictures = driver, pictures

    def log_in(self, user: str, password: str) -> None:
        """Send the login with every request, as a browser does after its dialogue was answered."""
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": f"Basic {token}"}})

    def open(self, url: str) -> None:
        """Load a page afresh: a change behind the # alone loads nothing."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")  # what the page before complained of
        self.driver.get(url)

    def shows(self, *texts: str) -> str:
        """Wait until the page shows all these texts; returns all of its visible text."""
        self._wait(lambda: all(text in self.text for text in texts), f"it shows {texts}")
        return self.text

    def until(self, script: str, what: str) -> None:
        """Wait until a JavaScript expression holds."""
        self._wait(lambda: self.run(script), what)

    @property
    def text(self) -> str:
        """What a reader of the page sees, of frames within it too."""
        return "\n".join(self._texts())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return {script}")

    def complaints(self) -> list[str]:
        """Errors in the JavaScript console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def picture(self, name: str) -> Path:
        """Save what the window shows."""
        file = self.pictures / f"{name}.png"
        self.driver.save_screenshot(str(file))
        return file

    def width(self, pixels: int) -> None:
        """Make the page so wide; a window cannot be narrower than 500."""
        size = {"width": pixels, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def _wait(self, happened: Callable[[], object], what: str) -> None:
        try:
            wait_until(happened, f"{self.driver.current_url}: {what}", output=lambda: self.text, pause=0.2)
        except AssertionError:
            self.picture("missing")
            raise

    def _texts(self) -> Iterator[str]:
        yield self.run("document.body ? document.body.innerText : ''")
        for frame in self.driver.find_elements("tag name", "iframe"):
            self.driver.switch_to.frame(frame)
            yield self.run("document.body ? document.body.innerText : ''")
            self.driver.switch_to.default_content()


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own; its pictures lie in the folder."""
    options = ChromeOptions()
    options.binary_location = str(need("chromium", "chromium"))
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Given, so that Selenium looks for none and downloads nothing.
    driver = Chrome(options, Service(str(need("chromedriver", "chromium-driver"))))
    patient: Any = driver.command_executor
    patient.client_config.timeout = int(LIMIT)  # 120 s by default, which a busy machine needs
    driver.set_page_load_timeout(LIMIT)
    driver.set_script_timeout(LIMIT)
    try:
        yield Browser(driver, folder)
    finally:
        driver.quit()
