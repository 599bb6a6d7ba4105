"""Text as CosyVoice 2 and 3 read it: ids of Qwen2's tokenizer and of tokens that the authors add."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from photophone.text.voxcpm import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_PROMPT = "<|endofprompt|>"
"""Behind an instruction."""
SYSTEM = "You are a helpful assistant."
"""How CosyVoice 3 begins."""
EVENTS = ("<|im_start|>", "<|im_end|>", END_OF_PROMPT, "[breath]", "<strong>", "</strong>", "[noise]", "[laughter]",
          "[cough]", "[clucking]", "[accent]", "[quick_breath]", "<laughter>", "</laughter>", "[hissing]", "[sigh]",
          "[vocalized-noise]", "[lipsmack]", "[mn]")
"""Added tokens of CosyVoice 2, in the order of their ids."""
SOUNDS = """
AA AA0 AA1 AA2 AE AE0 AE1 AE2 AH AH0 AH1 AH2 AO AO0 AO1 AO2 AW AW0 AW1 AW2 AY AY0 AY1 AY2 B CH D DH EH EH0 EH1
EH2 ER ER0 ER1 ER2 EY EY0 EY1 EY2 F G HH IH IH0 IH1 IH2 IY IY0 IY1 IY2 JH K L M N NG OW OW0 OW1 OW2 OY OY0 OY1
OY2 P R S SH T TH UH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH a ai an ang ao b c ch d e ei en eng f g h i ian in
ing iu ià iàn iàng iào iá ián iáng iáo iè ié iòng ióng iù iú iā iān iāng iāo iē iě iōng iū iǎ iǎn iǎng iǎo
iǒng iǔ j k l m n o ong ou p q r s sh t u uang ue un uo uà uài uàn uàng uá uái uán uáng uè ué uì uí uò uó uā
uāi uān uāng uē uě uī uō uǎ uǎi uǎn uǎng uǐ uǒ vè w x y z zh à ài àn àng ào á ái án áng áo è èi èn èng èr é éi
én éng ér ì ìn ìng í ín íng ò òng òu ó óng óu ù ùn ú ún ā āi ān āng āo ē ēi ēn ēng ě ěi ěn ěng ěr ī īn īng ō
ōng ōu ū ūn ǎ ǎi ǎn ǎng ǎo ǐ ǐn ǐng ǒ ǒng ǒu ǔ ǔn ǘ ǚ ǜ
"""
"""Of CosyVoice 3, behind those and ``<|endofsystem|>``, each in brackets: English phonemes, pinyin."""


def added_tokens(third: bool) -> list[str]:
    """All added tokens, of CosyVoice 3 or 2."""
    if not third:
        return list(EVENTS)
    return [*EVENTS, "<|endofsystem|>", *(f"[{sound}]" for sound in SOUNDS.split())]


def load_cosyvoice_tokenizer(source: str | Path, *, third: bool, **hub: object) -> PreTrainedTokenizerBase:
    """The vocabulary of a published folder, which holds that of Qwen2, with the added tokens.

    Args:
        source: ``CosyVoice-BlankEN`` of the release, or a hub id.
        third: of CosyVoice 3.
        hub: see :func:`photophone.text.voxcpm.load_tokenizer`.

    Raises:
        ValueError: there is none.
    """
    tokenizer = load_tokenizer(source, **hub)
    tokenizer.add_tokens(added_tokens(third), special_tokens=True)
    return tokenizer


def cosyvoice_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text as it is."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]
