"""Draw document-like pages: what a text detector meets, without anybody's documents.

Page ``n`` depends on ``n`` alone, so 16 pages are the first 16 of 256. Only Pillow's own font is used.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour: TypeAlias = tuple[int, int, int]
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom

SIZE = 640
MARGIN = 28
SEED = "trtd pages 1"

_SYLLABLES = "ba cor den ei fal gra hin il jor ka lum mar nes ol pri qua ren sta tor un ver wil xen ya zor".split()
_PAPERS: tuple[Colour, ...] = ((255, 255, 255), (250, 246, 235), (236, 242, 248), (244, 236, 236), (214, 222, 210))
_NIGHTS: tuple[Colour, ...] = ((24, 28, 40), (46, 30, 34), (16, 52, 48))
_INKS: tuple[Colour, ...] = ((10, 10, 10), (40, 40, 48), (90, 20, 30), (20, 40, 100), (96, 96, 96))
_CHALKS: tuple[Colour, ...] = ((250, 250, 245), (255, 226, 140), (170, 220, 255))
_PATCHES: tuple[Colour, ...] = (
    (30, 60, 114),
    (150, 30, 40),
    (24, 100, 70),
    (60, 60, 66),
    (255, 214, 80),
    (190, 214, 236),
)


def draw_page(number: int) -> Image.Image:
    """Page ``number`` as an RGB image of SIZE x SIZE pixels."""
    chance = random.Random(f"{SEED} {number}")
    dark = chance.random() < 0.15
    paper = chance.choice(_NIGHTS if dark else _PAPERS)
    image = _lit(paper, chance)
    ink = chance.choice(_CHALKS if dark else _INKS)
    page = _Page(ImageDraw.Draw(image), chance, ink)
    top = page.heading((MARGIN, MARGIN, SIZE - MARGIN, SIZE)) if chance.random() < 0.7 else MARGIN
    for left, right in _columns(chance):
        page.fill((left, top, right, SIZE - MARGIN))
    return _scanned(image, paper, number, chance)


def _columns(chance: random.Random) -> Iterator[tuple[int, int]]:
    count = chance.choice((1, 1, 2, 2, 3))
    gap = 24
    width = (SIZE - 2 * MARGIN - gap * (count - 1)) // count
    for column in range(count):
        left = MARGIN + column * (width + gap)
        yield left, left + width


def _lit(paper: Colour, chance: random.Random) -> Image.Image:
    """The empty page, often a little darker toward one side."""
    strength = chance.choice((0.0, 0.0, 0.08, 0.16))
    angle = chance.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    light = 1 - strength * (0.5 + x * np.cos(angle) + y * np.sin(angle))
    pixels = np.asarray(paper) * light[:, :, np.newaxis]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _scanned(image: Image.Image, paper: Colour, number: int, chance: random.Random) -> Image.Image:
    """What a camera or scanner adds: a slight turn, softness, noise."""
    if chance.random() < 0.5:
        image = image.rotate(chance.uniform(-4, 4), Image.Resampling.BICUBIC, fillcolor=paper)
    if chance.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0.3, 0.9)))
    noise = np.random.default_rng(number).normal(0, chance.choice((0, 2, 5, 9)), (SIZE, SIZE, 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class _Page:
    """Draws blocks into boxes. Each block returns the first free row below it."""

    def __init__(self, draw: ImageDraw.ImageDraw, chance: random.Random, ink: Colour) -> None:
        self.draw = draw
        self.chance = chance
        self.ink = ink

    def fill(self, box: Box) -> None:
        """Stack blocks from the top of the box until it is full."""
        left, top, right, bottom = box
        blocks: tuple[Callable[[Box], int], ...] = (
            self.paragraph,
            self.paragraph,
            self.table,
            self.entries,
            self.banner,
            self.figure,
        )
        while top < bottom - 24:
            block = self.chance.choice(blocks)
            top = block((left, top, right, bottom)) + self.chance.randint(10, 30)

    def heading(self, box: Box) -> int:
        size = self.chance.randint(26, 46)
        return self.line(self.words(2, 4).title(), box, size) + 14

    def paragraph(self, box: Box) -> int:
        left, top, right, bottom = box
        size = self.chance.choice((12, 13, 14, 15, 16, 18, 20, 24))
        for _ in range(self.chance.randint(2, 7)):
            if top + size > bottom:
                break
            top = self.line(self.words(12, 16), (left, top, right, bottom), size) + size // 3
        return top

    def table(self, box: Box) -> int:
        left, top, right, bottom = box
        size = self.chance.choice((12, 13, 14, 16))
        row_height = size + 12
        columns = max(2, (right - left) // self.chance.choice((80, 110, 140)))
        width = (right - left) // columns
        ruled = self.chance.random() < 0.7
        for row in range(self.chance.randint(3, 7)):
            if top + row_height > bottom:
                break
            for column in range(columns):
                x = left + column * width
                if ruled:
                    self.draw.rectangle((x, top, x + width, top + row_height), outline=self.ink)
                text = self.words(1, 1).title() if row == 0 or column == 0 else self.number()
                self.line(text, (x + 5, top + 5, x + width - 4, bottom), size)
            top += row_height
        return top

    def entries(self, box: Box) -> int:
        """Lines of a label to the left and an amount to the right, as on a receipt or a form."""
        left, top, right, bottom = box
        size = self.chance.choice((13, 15, 17, 20))
        middle = left + 2 * (right - left) // 3
        for _ in range(self.chance.randint(2, 6)):
            if top + size > bottom:
                break
            self.line(self.words(1, 2), (left, top, middle - 8, bottom), size)
            top = self.line(self.number(), (middle, top, right, bottom), size) + size // 2
        return top

    def banner(self, box: Box) -> int:
        """Text on a patch of another colour."""
        left, top, right, bottom = box
        size = self.chance.randint(16, 32)
        patch = self.chance.choice(_PATCHES)
        below = min(bottom, top + size + 22)
        self.draw.rounded_rectangle((left, top, right, below), radius=6, fill=patch)
        usual, self.ink = self.ink, (255, 255, 255) if sum(patch) < 400 else (20, 20, 20)
        self.line(self.words(2, 4), (left + 12, top + 9, right - 8, below), size)
        self.ink = usual
        return below

    def figure(self, box: Box) -> int:
        """Shapes without text, for the detector to leave alone."""
        left, top, right, bottom = box
        below = min(bottom, top + self.chance.randint(40, 110))
        if self.chance.random() < 0.5:
            for bar in range(left, right - 12, 22):
                height = self.chance.randint(4, max(5, below - top))
                self.draw.rectangle((bar, below - height, bar + 14, below), fill=self.chance.choice(_PATCHES))
        else:
            self.draw.rectangle((left, top, right, below), outline=self.ink)
            for _ in range(4):
                x, y = self.chance.randint(left, right - 20), self.chance.randint(top, max(top, below - 20))
                self.draw.ellipse((x, y, x + 18, y + 18), fill=self.chance.choice(_PATCHES))
        return below

    def line(self, text: str, box: Box, size: int) -> int:
        """Draw as many words as fit into one line; return the row below it."""
        left, top, right, bottom = box
        font = _font(size)
        while text and font.getlength(text) > right - left:
            text = text[: text.rfind(" ")] if " " in text else text[:-1]
        if top + size <= bottom:
            self.draw.text((left, top), text, self.ink, font)
        return top + size + 2

    def words(self, fewest: int, most: int) -> str:
        count = self.chance.randint(fewest, most)
        return " ".join("".join(self.chance.choices(_SYLLABLES, k=self.chance.randint(1, 3))) for _ in range(count))

    def number(self) -> str:
        form = self.chance.choice(("{:,.2f}", "{:.0f}", "{:.1f} %", "No. {:06.0f}", "{:.0f}/11"))
        largest = 30 if form.endswith("/11") else 1200
        return form.format(self.chance.uniform(1, largest))
