"""The history of results: kept in the visitor's browser, never on the server."""

from __future__ import annotations

from typing import Any

import gradio as gr

from photophone.core.limits import DEMO_SEED, DEMO_TEXT_CHARACTERS, MAX_PROMPT_CHARACTERS
from photophone.demo.events import HIDDEN

ENTRIES = 24
STORAGE_KEY = "photophone-history"
SECRET = "kept in this browser"
"""gradio scrambles what it stores with it; a fixed one lets the history outlive the server."""
ADD = f"(made, history) => made ? [[made, ...(history || [])].slice(0, {ENTRIES})] : [history]"
CARDS = """
<div class="history">
{{#each value}}
<button class="card" data-kind="{{kind}}" data-seed="{{seed}}" data-text="{{text}}">
<img src="{{picture}}" alt=""><span class="card-kind">{{kind}}</span><span class="card-text">{{text}}</span>
</button>
{{/each}}
</div>
"""
PICK = """
element.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (card) trigger("click", { kind: card.dataset.kind, text: card.dataset.text, seed: card.dataset.seed });
});
"""
LONGEST = {"image": MAX_PROMPT_CHARACTERS, "speech": DEMO_TEXT_CHARACTERS}


def build_history(tabs: gr.Tabs, parts: dict[str, list[dict[str, Any]]], page: gr.Blocks) -> None:
    """Add the history's components and events.

    Args:
        tabs: to which a click on a card leads.
        parts: what each tab returned, by the tab's id.
        page: the whole page, whose loading fills the history.
    """
    history = gr.BrowserState([], storage_key=STORAGE_KEY, secret=SECRET)
    gr.HTML('<p class="facts">Kept in this browser only. Click a card to use its words and seed again.</p>')
    cards = gr.HTML([], html_template=CARDS, js_on_load=PICK, elem_id="history-cards")
    clear = gr.Button("Clear", size="sm", elem_id="history-clear")
    for part in (part for some in parts.values() for part in some):
        part["run"].success(None, [part["record"], history], [history], js=ADD, api_visibility="private")
    history.change(None, history, cards, js="(history) => [history || []]", api_visibility="private")
    page.load(None, history, cards, js="(history) => [history || []]", api_visibility="private")
    clear.click(None, None, history, js="() => [[]]", api_visibility="private")
    again = {name: some[0] for name, some in parts.items() if name in LONGEST}
    fields = [component for part in again.values() for component in (part["text"], part["seed"], part["random"])]

    def pick(event: gr.EventData) -> list[Any]:
        chosen = event._data if isinstance(event._data, dict) else {}
        return fill_again(chosen, list(again))

    cards.click(pick, None, [tabs, *fields], **HIDDEN)


def fill_again(chosen: dict[str, Any], names: list[str]) -> list[Any]:
    """Updates of the tabs and of text, seed and random box of each tab in ``names``, from a card's data."""
    kind = chosen.get("kind")
    text = chosen.get("text")
    seed = str(chosen.get("seed"))
    updates: list[Any] = [gr.skip()] * (1 + 3 * len(names))
    usable = kind in names and isinstance(text, str) and len(text) <= LONGEST[kind]
    if usable and seed.isdecimal() and int(seed) <= DEMO_SEED:
        place = 1 + 3 * names.index(kind)
        updates[0] = gr.Tabs(selected=kind)
        updates[place:place + 3] = [text, int(seed), False]
    return updates
