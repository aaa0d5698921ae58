"""`corewatch users`: users of the portal, their roles and passwords, links that sign in once, and tokens of programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.command_group import UsageProblem
from cli.options import config_option, json_option, operator_name, settings_of
from corewatch.errors import ConfigurationError
from corewatch.roles import Role

if TYPE_CHECKING:
    from config.settings import Settings
    from ledger.portal_tokens import Token
    from ledger.store import Ledger
    from ledger.users import User

role_option = click.option(
    "--role", "roles", multiple=True, required=True, type=click.Choice([str(role) for role in Role]), help="May be repeated."
)
stdin_option = click.option("--password-stdin", "from_stdin", is_flag=True, help="Read the password from standard input.")


@click.group(help="Add, list or disable users of the portal; their passwords, links and tokens.")
@config_option
def users(config_file: Path | None) -> None:
    """Group of commands."""


@users.command()
@click.argument("login")
@role_option
@click.option("--name", default=None, metavar="NAME", help="Name that pages show; default: the login.")
@click.option("--no-password", is_flag=True, help="The user signs in by `corewatch users link` only.")
@stdin_option
@config_option
def add(
    config_file: Path | None, login: str, roles: tuple[str, ...], name: str | None, no_password: bool, from_stdin: bool
) -> None:
    """Add a user; asks for the password."""
    shown = " ".join((name or login).split())
    if not shown.isprintable() or len(shown) > 100:
        raise UsageProblem("the name is too long or has control characters", "give a name of at most 100 characters")
    with _opened(config_file) as (_settings, ledger):
        known = _parsed(login)
        if ledger.users.get(known) is not None:
            raise UsageProblem(f"there is a user {known} already", "`corewatch users password` or `roles` change it")
        password_hash = "" if no_password else _new_password_hash(known, from_stdin)
        if not ledger.users.add(known, shown, map(Role, roles), password_hash, operator_name()):
            raise UsageProblem(f"there is a user {known} already", "`corewatch users password` or `roles` change it")
    click.echo(f"{known}: added, with {', '.join(sorted(set(roles)))}")


@users.command()
@click.argument("login")
@stdin_option
@config_option
def password(config_file: Path | None, login: str, from_stdin: bool) -> None:
    """Set a password; ends the user's sessions."""
    with _opened(config_file) as (_settings, ledger):
        user = _known(ledger, login)
        ledger.users.set_password(user.login, _new_password_hash(user.login, from_stdin), operator_name())
    click.echo(f"{user.login}: the password is set")


@users.command()
@click.argument("login")
@role_option
@config_option
def roles(config_file: Path | None, login: str, roles: tuple[str, ...]) -> None:
    """Replace a user's roles, at once in open sessions too."""
    with _opened(config_file) as (_settings, ledger):
        user = _known(ledger, login)
        ledger.users.set_roles(user.login, map(Role, roles), operator_name())
    click.echo(f"{user.login}: has {', '.join(sorted(set(roles)))}")


@users.command()
@click.argument("login")
@config_option
def disable(config_file: Path | None, login: str) -> None:
    """Accept neither password nor tokens of a user, and end open sessions."""
    with _opened(config_file) as (_settings, ledger):
        user = _known(ledger, login)
        ledger.users.disable(user.login, operator_name())
    click.echo(f"{user.login}: disabled")


@users.command()
@click.argument("login")
@config_option
def enable(config_file: Path | None, login: str) -> None:
    """Accept password and tokens of a disabled user again."""
    with _opened(config_file) as (_settings, ledger):
        user = _known(ledger, login)
        ledger.users.enable(user.login, operator_name())
    click.echo(f"{user.login}: enabled")


@users.command("sign-out")
@click.argument("login")
@config_option
def sign_out(config_file: Path | None, login: str) -> None:
    """End every open session of a login, also of one from an identity provider."""
    with _opened(config_file) as (_settings, ledger):
        ended = ledger.portal_sessions.close_all(login, operator_name())
    click.echo(f"{login}: {ended} session(s) ended")


@users.command("list")
@config_option
@json_option
def list_users(config_file: Path | None, as_json: bool) -> None:
    """List all users."""
    from cli.case_tables import print_json

    with _opened(config_file) as (_settings, ledger):
        found = ledger.users.all()
    if as_json:
        print_json([_user_json(user) for user in found])
        return
    for user in found:
        state = "" if user.enabled else "  (disabled)"
        click.echo(f"{user.login:<24} {user.name:<32} {', '.join(sorted(user.roles))}{state}")
    if not found:
        click.echo("There are no users: the portal answers signed links only. Add one with `corewatch users add`.")


@users.command()
@click.argument("login")
@click.option("--minutes", type=click.IntRange(1, 1440), default=15, show_default=True, help="How long the link is valid.")
@config_option
@json_option
def link(config_file: Path | None, login: str, minutes: int, as_json: bool) -> None:
    """Print a link that signs a user in one time. Send it only over a way that nobody else reads."""
    from cli.case_tables import print_json

    with _opened(config_file) as (settings, ledger):
        if settings.portal is None or settings.portal.url is None:
            raise ConfigurationError("portal.url is not set", "set it to the portal's address")
        user = _known(ledger, login)
        address = once_link(ledger, settings.portal.url, user.login, timedelta(minutes=minutes), operator_name())
    if as_json:
        print_json({"login": user.login, "link": address, "minutes": minutes})
    else:
        click.echo(address)


@users.group(help="Bearer tokens of programs.")
def token() -> None:
    """Group of commands."""


@token.command("add")
@click.argument("login")
@role_option
@click.option("--label", required=True, metavar="TEXT", help="What the token is for.")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is valid.")
@config_option
@json_option
def add_token(config_file: Path | None, login: str, roles: tuple[str, ...], label: str, days: int, as_json: bool) -> None:
    """Make a token for a user's program and print it once. It has at most the user's own roles."""
    from cli.case_tables import print_json

    chosen = frozenset(map(Role, roles))
    with _opened(config_file) as (_settings, ledger):
        user = _known(ledger, login)
        if not chosen <= user.roles:
            missing = ", ".join(sorted(chosen - user.roles))
            raise UsageProblem(f"{user.login} has not: {missing}", "give the user this role first (`corewatch users roles`)")
        made, secret = ledger.portal_tokens.add(user.login, label[:100], chosen, timedelta(days=days), operator_name())
    if as_json:
        print_json({**_token_json(made), "token": secret})
    else:
        click.echo(secret)
        click.echo(f"token {made.id} of {user.login}, valid until {made.expires_at:%Y-%m-%d}; it is not shown again", err=True)


@token.command("list")
@config_option
@json_option
def list_tokens(config_file: Path | None, as_json: bool) -> None:
    """List all tokens, without their secrets."""
    from cli.case_tables import print_json

    with _opened(config_file) as (_settings, ledger):
        found, now = ledger.portal_tokens.all(), ledger.clock()
    if as_json:
        print_json([_token_json(one) for one in found])
        return
    for one in found:
        state = "valid" if one.is_valid(now) else "revoked" if one.revoked_at else "used" if now < one.expires_at else "expired"
        roles = ", ".join(sorted(one.roles))
        click.echo(f"{one.id}  {one.kind:<5} {one.login:<24} {state:<8} {one.expires_at:%Y-%m-%d}  {one.label}  {roles}")


@token.command("revoke")
@click.argument("token_id")
@config_option
def revoke_token(config_file: Path | None, token_id: str) -> None:
    """Accept a token no longer."""
    with _opened(config_file) as (_settings, ledger):
        if not ledger.portal_tokens.revoke(token_id, operator_name()):
            raise UsageProblem(f"there is no valid token {token_id}", "`corewatch users token list` shows the tokens")
    click.echo(f"{token_id}: revoked")


def once_link(ledger: Ledger, url: str, login: str, valid_for: timedelta, by: str) -> str:
    """Address that signs a user in one time."""
    from ledger.portal_tokens import TokenKind

    _made, secret = ledger.portal_tokens.add(login, "link", (), valid_for, by, TokenKind.ONCE)
    return f"{url}/login/once/{secret}"


def _new_password_hash(login: str, from_stdin: bool) -> str:
    from portal.access.passwords import Passwords, check_new_password

    if from_stdin:
        chosen = sys.stdin.readline().rstrip("\r\n")
    else:
        chosen = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    check_new_password(chosen, login)
    return Passwords().hash(chosen)


def _parsed(login: str) -> str:
    from ledger.users import parse_login

    known = parse_login(login)
    if known is None:
        raise UsageProblem("a login has letters, digits and . _ @ + - only, 64 at most", "choose another login")
    return known


def _known(ledger: Ledger, login: str) -> User:
    user = ledger.users.get(_parsed(login))
    if user is None:
        raise UsageProblem(f"there is no user {login}", "`corewatch users list` shows the users")
    return user


def _user_json(user: User) -> dict[str, object]:
    return {"login": user.login, "name": user.name, "roles": sorted(user.roles), "enabled": user.enabled}


def _token_json(token: Token) -> dict[str, object]:
    return {
        "id": token.id, "kind": str(token.kind), "login": token.login, "label": token.label, "roles": sorted(token.roles),
        "expires_at": token.expires_at.isoformat(), "revoked": token.revoked_at is not None,
    }  # fmt: skip


@contextmanager
def _opened(config_file: Path | None) -> Iterator[tuple[Settings, Ledger]]:
    """Settings and ledger; a ledger that does not exist yet is made, so that users can be there before the first start."""
    from cli.data_folder import make_private
    from ledger.store import Ledger

    settings = settings_of(config_file)
    make_private(settings.data_dir)
    ledger = Ledger(settings.database_url)
    try:
        yield settings, ledger
    finally:
        ledger.close()
