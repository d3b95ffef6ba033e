"""`koe contacts`: the people this node knows, and their identities."""

from __future__ import annotations

import time

import click

from bin.commands.ask import ask_daemon, json_option, show
from bin.contacts import Contact, ContactBook
from bin.output import print_table
from bin.places import Places
from bin.reports import (
    ContactReport,
    ContactsReport,
    Done,
    FoundReport,
    IdentityReport,
)
from bin.requests import PeerParams

__all__ = ["contacts"]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def contacts(context: click.Context, as_json: bool) -> None:
    """Show and change whom this node knows.

    Contacts may learn this machine's addresses in a call, for a direct path; others
    are talked to through relays. A name that was called once is pinned to its identity.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_contacts, as_json=as_json)


@contacts.command("list")
@json_option
@click.pass_obj
def list_contacts(places: Places, as_json: bool) -> None:
    """Show all known names."""
    book = ContactBook(places.contacts_file)
    report = ContactsReport([_report(each) for each in book.contacts()])
    show(report, as_json, _print_contacts)


@contacts.command()
@click.argument("name")
@click.argument("peer", required=False)
@click.option("--verified", is_flag=True, help="You compared the id with them.")
@json_option
@click.pass_obj
def add(
    places: Places, name: str, peer: str | None, verified: bool, as_json: bool
) -> None:
    """Add NAME, whose identity PEER tells: a key or a koe: link.

    Without PEER, or with an id, the identity is looked up in the index.
    """
    from overlay.errors import InvalidPeerName
    from overlay.names import check_name, parse_key, parse_peer_name

    try:
        check_name(name)
        public_key = parse_peer_name(peer or name).public_key
    except ValueError as error:
        raise InvalidPeerName(str(error)) from None
    if public_key is None:
        wanted = PeerParams(peer or name)
        found = ask_daemon(places, "look_up", FoundReport, wanted)
        public_key = parse_key(found.public_key)
    book = ContactBook(places.contacts_file)
    contact = book.add(name, public_key, time.time(), verified=verified)
    show(ContactsReport([_report(contact)]), as_json, _print_contacts)


@contacts.command()
@click.argument("name")
@json_option
@click.pass_obj
def remove(places: Places, name: str, as_json: bool) -> None:
    """Forget NAME and its identity."""
    ContactBook(places.contacts_file).remove(name)
    show(Done(), as_json, lambda _: click.echo(f"{name} is forgotten"))


@contacts.command()
@json_option
@click.pass_obj
def link(places: Places, as_json: bool) -> None:
    """Show the link by which others can add this node."""
    report = ask_daemon(places, "who_am_i", IdentityReport)
    show(report, as_json, lambda identity: click.echo(identity.link))


def _report(contact: Contact) -> ContactReport:
    from overlay.identity import short_id

    return ContactReport(
        name=contact.name,
        short_id=short_id(contact.public_key),
        public_key=contact.key,
        contact=contact.contact,
        verified=contact.verified,
        added_at=contact.added_at,
    )


def _print_contacts(report: ContactsReport) -> None:
    print_table(
        ("NAME", "ID", "KNOWN AS", "SINCE"),
        [
            (
                each.name,
                each.short_id,
                _standing(each),
                time.strftime("%Y-%m-%d", time.localtime(each.added_at)),
            )
            for each in report.contacts
        ],
        empty="no contacts yet: `koe contacts add NAME`",
    )


def _standing(contact: ContactReport) -> str:
    standing = "contact" if contact.contact else "pinned"
    return f"{standing}, verified" if contact.verified else standing
