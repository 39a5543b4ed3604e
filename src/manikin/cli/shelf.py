"""The commands that look things up: what there is, how to cite it, and keys to sign with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from manikin.cli import options as opt
from manikin.cli.console import command, show_json
from manikin.cli.show import show_card, show_catalogue, show_paths

__all__ = ["cite", "keygen", "list_"]


@command
def list_(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A synthesizer, metric or policy: prints its card. Or one shelf: synthesizers,"
            " metrics, policies, formats.",
            show_default=False,
        ),
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """List the synthesizers, metrics, policies and formats; or print one card whole.

    [bold]Examples[/bold]

    manikin list

    manikin list table/seqtree

    manikin list fidelity/detection

    manikin list policies

    manikin list public
    """
    from manikin import catalogue
    from manikin.cli import cards

    shelves = cards.shelves() if name is None or "/" not in name else {}
    if name is None or name in shelves:
        shelves = shelves if name is None else {name: shelves[name]}
        if as_json:
            show_json(
                {
                    key: [dataclasses.asdict(card) for card in cards_]
                    for key, cards_ in shelves.items()
                }
            )
        else:
            show_catalogue(shelves)
        return
    card = cards.card(name)
    settings = catalogue.settings(name) if name in catalogue.names() else ()
    if as_json:
        show_json(
            {**dataclasses.asdict(card), "settings": [dataclasses.asdict(s) for s in settings]}
        )
    elif card.kind == "policy":
        from manikin.cli.rulings import show_policy
        from manikin.release.policy import load_policy

        show_policy(load_policy(card.name))
    else:
        show_card(card, settings)


@command
def cite(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|DIR]...",
            help="Synthesizers, metrics, or the directory of a release: all that made it.",
            show_default=False,
        ),
    ] = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="BibTeX instead of plain text.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Print what to cite: Manikin itself, and the works behind what was used.

    [bold]Examples[/bold]

    manikin cite manikin-release

    manikin cite table/seqtree fidelity/detection --bibtex > manikin.bib
    """
    from manikin.cli import citations

    works = citations.works(names or ())
    if as_json:
        show_json([dataclasses.asdict(work) for work in works])
    else:
        typer.echo("\n\n".join(work.bibtex() if bibtex else work.plain() for work in works))


@command
def keygen(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the private key goes.", show_default=False)
    ],
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Make a key pair to sign releases with: FILE (keep it secret) and FILE.pub (hand it out).

    [bold]Examples[/bold]

    manikin keygen hospital.key

    manikin synthesize patients.csv --sign hospital.key
    """
    from manikin.release import seal

    name = seal.keygen(path)
    public = path.with_name(path.name + ".pub")
    if as_json:
        show_json({"private": str(path), "public": str(public), "fingerprint": name})
    elif not quiet:
        show_paths({"private key": path, "public key": public, "fingerprint": name})
