"""Make web_ui.png and web_ui_checkpoints.png: Flink's web UI while word_count.py runs.

    .venv/bin/python -m pip install --target /tmp/pictures playwright
    PYTHONPATH=/tmp/pictures .venv/bin/python docs/pictures/screenshot.py

It needs what 'make' sets up, and Chromium (apt install chromium). Broker, job and browser end with the script.
"""

import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer
from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
sys.path.append(str(ROOT / "tools"))

from broker import embedded_broker  # noqa: E402

SAMPLE = ROOT / "tools" / "sample.txt"
WIDTH, LEFT, TOP = 1000, 88, 66  # pixels: of the page, and of the menu and the bar around it
# What is shown is what matters here, and large: no table of the job's id, and only the columns that have room.
STYLE = """
flink-job-status nz-descriptions { display: none }
flink-job-overview > .container { height: 310px !important; overflow: hidden }
flink-dagre { display: block; height: 420px !important; margin-top: -110px }
nz-resize-handle { display: none }
flink-job-checkpoints :is(th, td) { white-space: nowrap; word-break: normal !important }
flink-job-checkpoints :is(th, td):nth-child(n + 8) { display: none }
"""
SECONDS = 25  # that the job runs before it is looked at
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]  # it talks to localhost only


@contextlib.contextmanager
def records_flowing(address: str) -> Iterator[None]:
    """The topic input, and a hundred lines a second in it for as long as the `with` block goes on."""
    with KafkaAdminClient(bootstrap_servers=address) as admin:
        admin.create_topics({"input": {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    ended = threading.Event()

    def produce() -> None:
        lines = SAMPLE.read_bytes().splitlines()
        with contextlib.closing(KafkaProducer(bootstrap_servers=address)) as producer:
            while not ended.wait(len(lines) / 100):
                for line in lines:
                    producer.send("input", line)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def job(address: str) -> Iterator[str]:
    """The address of the web UI of a run that writes to a temporary folder."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "word_count.py", "--bootstrap-servers", address, "--output", output]
        run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            said = next(line for line in run.stderr if "web UI" in line)
            yield re.search(r"http://\S+", said)[0]
        finally:
            run.terminate()
            run.communicate()


def shoot(page: Page, name: str, height: int) -> None:
    """The page without its menu, as a picture of few colours, which is small."""
    page.wait_for_timeout(12_000)  # the page asks for numbers every few seconds
    clip = {"x": LEFT, "y": TOP, "width": WIDTH - LEFT, "height": height}
    image = Image.open(io.BytesIO(page.screenshot(clip=clip)))
    image.convert("RGB").quantize(128).save(FOLDER / f"{name}.png", optimize=True)


def main() -> None:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(embedded_broker()).bootstrap_servers
        stack.enter_context(records_flowing(address))
        ui = stack.enter_context(job(address))
        chromium = stack.enter_context(sync_playwright()).chromium
        browser = chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=2)
        page.goto(ui)
        time.sleep(SECONDS)
        page.add_style_tag(content=STYLE)
        page.get_by_text("word_count").first.click()
        page.locator(".anticon-menu-fold").first.click()
        shoot(page, "web_ui", 502)
        page.get_by_text("Checkpoints", exact=True).click()
        page.get_by_text("History", exact=True).click()
        shoot(page, "web_ui_checkpoints", 560)
        browser.close()


if __name__ == "__main__":
    main()
