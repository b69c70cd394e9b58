"""All figures of a report but those of what was pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.blocks.block import Block
from analysis.figures.sections import Section, draw_blocks
from analysis.figures.style import Drawing, Look
from analysis.page.headline import Headline
from analysis.page.lead import draw_lead, draw_samples_seen
from analysis.page.turned import draw_turned


@dataclass(frozen=True)
class Figures:
    """What the page shows drawn."""

    lead: Sequence[Drawing] = ()
    """For a desk and for a phone; nothing where there is nothing to compare."""
    samples: Sequence[Drawing] = ()
    turned: Sequence[Drawing] = ()
    """Over budgets, doses and noise."""
    sections: Sequence[Section] = ()

    @property
    def all(self) -> list[Drawing]:
        below = [one for section in self.sections for one in section.figures]
        return [*self.lead, *self.samples, *self.turned, *below]


def draw(headline: Headline, blocks: Sequence[Block], looks: Mapping[str, Look]) -> Figures:
    return Figures(
        draw_lead(headline, looks),
        draw_samples_seen(headline, blocks, looks),
        draw_turned(headline.registry, blocks, looks),
        draw_blocks(blocks, looks, headline.margin),
    )
