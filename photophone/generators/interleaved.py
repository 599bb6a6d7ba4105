"""Generators that read and write text and images in one sequence: what they share beside the loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.threads import fitting_threads
from photophone.decoding.interleaved import AnswerPlan, Part, Session, write_answer
from photophone.decoding.loop import Callback
from photophone.generators.base import adapting
from photophone.generators.prompts import PromptGenerator
from photophone.generators.sampler import Sampler, option, top_k_option, top_p_option
from photophone.kernels.sampling import draw

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Given = str | Tensor  # a text, or the tokens of one image: Long (N,) or float (N, D)


@dataclass(frozen=True)
class Request:
    """Texts and images in their order, as a model reads them.

    Args:
        ids: Long (L,), with an id at the place of each token of an image.
        images: the tokens of each image, Long (N,) or float (N, D).
        asked: bool (L,), True for what the user gave, which rows of guidance leave out.
        null_ids: Long (M,): what stands for a request in rows that guidance compares with.
    """

    ids: Tensor
    images: tuple[Tensor, ...] = ()
    asked: Tensor | None = None
    null_ids: Tensor | None = None


@dataclass(frozen=True)
class TextSampler(Sampler):
    """Options of how ids of text are drawn; a family adds those of images."""

    text_temperature: float = option(1.0, "of text; 0 takes the likeliest id", low=0, high=2)
    text_top_k: int = top_k_option()
    text_top_p: float = top_p_option()


class InterleavedGenerator(PromptGenerator):
    """Base of generators that read requests of text and images, and write both.

    A family implements :meth:`session` and :meth:`encode_request`, and says which ids start an image and end an
    answer. As a :class:`photophone.Generator` it draws one image behind each prompt.

    Attributes:
        forms_requests: True: requests get their form by :meth:`encode_request`.
    """

    forms_requests: ClassVar[bool] = True

    @property
    @abstractmethod
    def image_start(self) -> int:
        """The id behind which an image follows."""

    @property
    @abstractmethod
    def ends(self) -> frozenset[int]:
        """Ids that end an answer."""

    @property
    def image_steps(self) -> int:
        """Steps of an image."""
        return self.config.num_tokens

    @abstractmethod
    def session(self, request: Request, noise: Noise, sampler: Sampler) -> Session:
        """A request that was read; see :func:`photophone.decoding.interleaved.write_answer`."""

    @abstractmethod
    def encode_request(self, tokenizer: PreTrainedTokenizerBase, parts: Sequence[Given], kind: str = "any") -> Request:
        """Texts and tokens of images in the form in which the model was trained to read them.

        Args:
            kind: what the answer will be, see :class:`photophone.decoding.interleaved.AnswerPlan`.

        Raises:
            ValueError: the vocabulary lacks a word that stands for an image.
        """

    def choose(self, logits: Tensor, noise: Noise, sampler: TextSampler) -> Tensor:
        """Ids of text Long (1,) from logits (1, V)."""
        return draw(logits[:, None], None, 1.0, noise, temperature=sampler.text_temperature,
                    top_k=sampler.text_top_k, top_p=sampler.text_top_p)[:, 0]

    @torch.no_grad()
    def answer(self, request: Request, *, noise: Noise, sampler: Sampler | None = None,
               plan: AnswerPlan | None = None, callback: Callback | None = None) -> list[Part]:
        """Text as ids Long (n,) and images as :class:`photophone.Tokens` of one row, in their order.

        Args:
            request: of :meth:`encode_request`.
            noise: one row.
            sampler: options; None: the defaults of the family.
            plan: what the answer may hold.
            callback: see :meth:`generate`; an answer may end before ``total``.

        Raises:
            ValueError: a sampler of another family, ids that the vocabulary does not have, or images of another form.
            DecodingStopped: the callback asked to stop.
        """
        sampler = self.Sampler(**self.sampler_settings) if sampler is None else sampler
        if not isinstance(sampler, self.Sampler):
            raise ValueError(f"{type(self).__name__} takes a {self.Sampler.__name__}, got a {type(sampler).__name__}")
        self.check_request(request)
        with fitting_threads(self, self.places_at_once(1)) as threads:
            session = self.session(request, noise, sampler)
            return write_answer(session, lambda logits: self.choose(logits, noise, sampler), plan or AnswerPlan(),
                                image_start=self.image_start, ends=self.ends, image_steps=self.image_steps,
                                callback=adapting(callback, threads))

    def check_request(self, request: Request) -> None:
        """Refuse ids that the vocabulary does not have, and nothing to read.

        Raises:
            ValueError: names them.
        """
        ids, most = request.ids, self.config.vocab_size
        if ids.ndim != 1 or ids.dtype != torch.long or not len(ids):
            raise ValueError(f"a request must be Long (L,) with L above 0, got {ids.dtype} {tuple(ids.shape)}")
        if not 0 <= int(ids.min()) <= int(ids.max()) < most:
            raise ValueError(f"ids of a request must lie in 0..{most - 1}, got {int(ids.min())}..{int(ids.max())}")


def word_of(tokenizer: PreTrainedTokenizerBase, id: int) -> str:
    """The word of a vocabulary that has this id.

    Raises:
        ValueError: there is none.
    """
    word = tokenizer.convert_ids_to_tokens(id)
    if word is None:
        raise ValueError(f"the vocabulary of {len(tokenizer)} words has none for the id {id}, which stands for an "
                         "image; take the one that was published with the model")
    return word


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str, **options) -> Tensor:
    """Ids Long (L,) of a text by a vocabulary of transformers."""
    return torch.tensor(tokenizer(text, **options)["input_ids"], dtype=torch.long)
