"""A headless Chromium, and measurements of a page in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

CONTRAST = """
// Every element with text of its own: its size on the screen, and its contrast by WCAG 2 with the background behind it.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const channels = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha / 255];
};
const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3])).concat(1);
const luminance = (colour) => {
  const [red, green, blue] = colour.slice(0, 3).map((value) => {
    value /= 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const behind = (element) => {
  if (!element) return channels(matchMedia("(prefers-color-scheme: dark)").matches ? "#121212" : "#fff");
  return over(channels(getComputedStyle(element).backgroundColor), behind(element.parentElement));
};
const found = [];
for (const element of document.body.querySelectorAll("*")) {
  const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
  const style = getComputedStyle(element);
  if (!text || ["STYLE", "SCRIPT", "TITLE"].includes(element.tagName) || !element.checkVisibility()) continue;
  const background = behind(element);
  const drawn = element instanceof SVGTextElement;
  const ink = over(channels(drawn ? style.fill : style.color), background);
  const [low, high] = [luminance(ink), luminance(background)].sort((a, b) => a - b);
  const scale = drawn ? element.getScreenCTM().a || Math.abs(element.getScreenCTM().b) : 1;
  const size = scale * parseFloat(style.fontSize);
  found.push({ text: text.slice(0, 40), size, contrast: (high + 0.05) / (low + 0.05) });
}
return found;
"""

CLASHES = """
// Texts of charts that overlap another text of their chart, or that reach beyond the chart.
const found = [];
const inside = (box, frame) =>
  box.left > frame.left - 1 && box.right < frame.right + 1 && box.top > frame.top - 1 && box.bottom < frame.bottom + 1;
const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
for (const chart of document.querySelectorAll("svg")) {
  if (!chart.checkVisibility()) continue;
  const frame = chart.getBoundingClientRect();
  const texts = [...chart.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
  for (const [at, [text, box]] of texts.entries()) {
    if (!inside(box, frame)) found.push(`${text} is clipped`);
    for (const [other, second] of texts.slice(at + 1))
      if (overlap(box, second)) found.push(`${text} overlaps ${other}`);
  }
}
return found;
"""


class Browser:
    """A headless Chromium that opens files and records every request."""

    def __init__(self, profile: Path, chromium: str, chromedriver: str) -> None:
        options = ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(chromedriver))

    def open(self, page: Path, *, width: int = 1200, dark: bool = False) -> None:
        self.errors()
        self.requests()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.get(page.as_uri())

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, condition: str, seconds: float = 30) -> None:
        """Waits until an expression in JavaScript is true, such as after an event that comes in a later task."""
        WebDriverWait(self.driver, seconds).until(lambda _: self.run(f"return {condition}"), condition)

    def errors(self) -> list[str]:
        """Messages on the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses requested since the last call."""
        sent = [entry["message"] for entry in self.driver.get_log("performance")]
        messages = [json.loads(message)["message"] for message in sent]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def texts(self) -> list[dict[str, float]]:
        """Every visible text with its size in CSS pixels and its contrast."""
        return self.run(CONTRAST)  # type: ignore[no-any-return]

    def clashes(self) -> list[str]:
        """Texts of charts that overlap or are clipped."""
        return self.run(CLASHES)  # type: ignore[no-any-return]
