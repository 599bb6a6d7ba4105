"""The demo in a real browser, every tab; run by `make test-browser`. Screenshots go to outputs/browser."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hostile import picture, sound
from visitors import Visitor, small_enhancer

from photophone.demo.app import Settings, serving
from photophone.demo.models import Choice, installed

playwright_api = pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a microphone that beeps
SHOTS = Path(__file__).parents[2] / "outputs" / "browser"
WAIT = 60_000
"""Milliseconds for a result: machines of two cores are slow."""
SPREAD = """(selector) => {
  const image = document.querySelector(selector);
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  return Array.from(pen.getImageData(0, 0, canvas.width, canvas.height).data);
}"""
LISTEN = """async (address) => {
  const data = await (await fetch(address)).arrayBuffer();
  const context = new OfflineAudioContext(1, 16000, 16000);
  const sound = await context.decodeAudioData(data);
  const samples = sound.getChannelData(0);
  let energy = 0;
  for (const sample of samples) energy += sample * sample;
  return { seconds: sound.duration, level: Math.sqrt(energy / samples.length) };
}"""

CANCEL_SLOWLY = """() => {
  const fetch = window.fetch;
  window.fetch = async (address, options) => {
    if (String(address).endsWith("/cancel")) await new Promise((done) => setTimeout(done, 1000));
    return fetch(address, options);
  };
}"""


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        pytest.fail(f"no browser at {CHROMIUM}; `make test-browser` installs it")
    with playwright_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    enhance = "photophone/tiny-enhance"
    if not installed(enhance):
        enhance = small_enhancer(tmp_path_factory.mktemp("enhance") / "model")
    with serving(Choice(enhance=enhance), Settings()) as address:
        yield address


@pytest.fixture
def page(browser, address, request):
    """A page that fails its test for errors in the console and for requests that leave this computer."""
    narrow = "narrow" in request.node.name
    page = browser.new_page(viewport={"width": 390, "height": 844} if narrow else {"width": 1200, "height": 950})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(
        (address, "data:", "blob:")) else None)
    page.goto(address)
    page.wait_for_selector("#image-go", timeout=WAIT)
    yield page
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{request.node.name.removeprefix('test_')}.png", full_page=True)
    page.close()
    assert complaints == []


def open_tab(page, *names):
    for name in names:
        page.get_by_role("tab", name=name, exact=True).click()


def pixels(page, selector):
    page.wait_for_function("(selector) => { const image = document.querySelector(selector);"
                           " return image && image.complete && image.naturalWidth > 0 }", arg=selector, timeout=WAIT)
    return np.array(page.evaluate(SPREAD, selector), float)


def heard(page, selector):
    """Seconds and level of what a player plays."""
    download = page.wait_for_selector(f"{selector} a[download]", timeout=WAIT)
    return page.evaluate(LISTEN, download.get_attribute("href"))


def facts(page, name, words):
    page.wait_for_function("([name, words]) => document.querySelector(name).innerText.includes(words)",
                           arg=[f"#{name}-facts", words], timeout=WAIT)
    return page.inner_text(f"#{name}-facts")


def test_images_are_made_and_not_blank(page):
    page.click("#image-go")
    facts(page, "image", "4 images")
    assert pixels(page, "#image-gallery img").std() > 20
    open_tab(page, "History")
    page.wait_for_selector("#history-cards .card", timeout=WAIT)
    page.click("#history-cards .card")
    page.wait_for_selector("#image-go", timeout=WAIT)
    assert "a red apple" in page.input_value("#image-prompt textarea")


def test_the_same_seed_makes_the_same_picture(page):
    page.get_by_label("random").first.uncheck()
    page.get_by_label("Seed").first.fill("11")
    seen = []
    for _ in range(2):
        page.click("#image-go")
        facts(page, "image", "seeds 11 to 14")
        seen.append(pixels(page, "#image-gallery img"))
        page.fill("#image-prompt textarea", "a red apple, 3d emoji")
    assert np.array_equal(*seen)


def test_speech_plays_and_has_its_length(page):
    open_tab(page, "Speech")
    page.click("#speech-go")
    line = facts(page, "speech", "of speech")
    sound = heard(page, "#speech-audio")
    assert abs(sound["seconds"] - float(line.split(" s of speech")[0])) < 0.06
    assert sound["level"] > 0.01
    assert pixels(page, "#speech-picture img").std() > 20
    played = page.get_attribute("#speech-live .live", "data-played")
    assert int(played) > 0.9 * 2 * 16_000 * sound["seconds"]


def test_speech_can_be_cancelled(page):
    open_tab(page, "Speech")
    page.fill("#speech-text textarea", "Light carries sound. The sun is warm. " * 15)
    page.click("#speech-go")
    page.wait_for_function("Number(document.querySelector('#speech-live .live').dataset.played) > 0", timeout=WAIT)
    page.evaluate(CANCEL_SLOWLY)  # a click before the cancelling has ended would be lost
    page.click("#speech-cancel")
    facts(page, "speech", "Stopped")
    page.fill("#speech-text textarea", "Hello.")
    page.click("#speech-go")  # the model is free again
    line = facts(page, "speech", "of speech")
    sound = heard(page, "#speech-audio")  # of the second text, not what was left of the first
    assert sound["seconds"] == pytest.approx(float(line.split(" s of speech")[0]), abs=0.06) and sound["seconds"] < 3
    assert sound["level"] > 0.01


def test_a_recording_is_enhanced(page):
    open_tab(page, "Enhancement")
    page.click("#enhance-example")
    page.wait_for_selector("#enhance-input .waveform-container, #enhance-input audio, #enhance-input canvas",
                           timeout=WAIT, state="attached")
    page.click("#enhance-go")
    line = facts(page, "enhance", "24000 Hz")
    sound = heard(page, "#enhance-audio")
    assert abs(sound["seconds"] - float(line.split(" s in")[0])) < 0.06
    assert sound["level"] > 0.001


@pytest.mark.skipif(not installed("photophone/tiny-enhance-live"), reason="its weights are not in this installation")
def test_the_microphone_is_made_clean_while_it_is_heard(page):
    open_tab(page, "Enhancement", "Microphone")
    page.click(".mic-go")
    page.wait_for_function("Number(document.querySelector('.mic-state').innerText.split(' ')[0]) > 1", timeout=WAIT)
    page.click(".mic-go")
    page.wait_for_selector(".mic-made[src]", timeout=WAIT)
    given, made = (page.evaluate(LISTEN, page.get_attribute(f".mic-{name}", "src")) for name in ("given", "made"))
    assert made["seconds"] == given["seconds"] > 1
    assert given["level"] > 0.001 and made["level"] < given["level"]  # beeps are no speech
    assert page.inner_text(".mic-state").endswith("ended")


def test_a_picture_becomes_tokens_and_comes_back(page):
    open_tab(page, "Tokens")
    page.set_input_files("#tokens-image-input input[type=file]", {"name": "a.png", "mimeType": "image/png",
                                                                  "buffer": picture(size=(200, 160))})
    page.wait_for_selector("#tokens-image-input img", timeout=WAIT)
    page.click("#tokens-image-go")
    assert "16 tokens of 32 numbers" in facts(page, "tokens-image", "PSNR")
    assert pixels(page, "#tokens-image-slider img").std() > 10
    assert pixels(page, "#tokens-image-map img").std() > 10


def test_a_recording_becomes_tokens_and_comes_back(page):
    open_tab(page, "Tokens", "Recording")
    page.set_input_files("#tokens-audio-input input[type=file]", {"name": "a.wav", "mimeType": "audio/wav",
                                                                  "buffer": sound(seconds=1.5)})
    page.wait_for_timeout(1000)
    page.click("#tokens-audio-go")
    facts(page, "tokens-audio", "tokens a second")
    assert heard(page, "#tokens-audio-output")["seconds"] == pytest.approx(1.5, abs=0.06)
    assert pixels(page, "#tokens-audio-map img").std() > 10


def test_a_bad_upload_gets_a_sentence(page):
    open_tab(page, "Tokens")
    page.set_input_files("#tokens-image-input input[type=file]", {"name": "a.png", "mimeType": "image/png",
                                                                  "buffer": picture()[:60]})
    page.wait_for_timeout(1000)
    page.click("#tokens-image-go")
    toast = page.wait_for_selector(".toast-body", timeout=WAIT)
    assert "damaged" in toast.inner_text() or "cannot read the image" in toast.inner_text()
    facts(page, "tokens-image", "Stopped")


def test_a_full_queue_is_told(browser):
    busy, told = ["a red apple", 8, 7, False, 50, 3.0, 1.0, "", False, 64], threading.Event()
    with serving(Choice(speech=None, enhance=None), Settings(queue=1)) as address, ThreadPoolExecutor(3) as pool:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#image-go", timeout=WAIT)

        def ask():
            """What a visitor is told who asks again and again."""
            kinds = set()
            while not told.is_set():
                kinds.add(Visitor(address).call("image", busy)[0])
            return kinds

        others = [pool.submit(ask) for _ in range(3)]  # one request runs, one waits
        page.wait_for_timeout(1000)
        page.click("#image-go")
        try:
            words = page.wait_for_selector(".toast-body", timeout=WAIT).inner_text()
        finally:
            told.set()
        assert "full" in words or "busy" in words, words  # the sentence is that of Gradio, by its version
        assert "complete" in set().union(*(done.result() for done in others))
        page.close()


@pytest.mark.parametrize("tab", ["Image", "Speech", "Enhancement", "Tokens", "History"])
def test_a_narrow_screen_shows_all_of(page, tab):
    open_tab(page, tab) if tab in ("Image", "Speech") else page.evaluate(
        "(name) => [...document.querySelectorAll('[role=tab], .overflow-dropdown button')]"
        ".find((tab) => tab.innerText.trim() === name).click()", tab)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
