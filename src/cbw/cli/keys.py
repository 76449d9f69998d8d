"""``cbw keys``."""

from __future__ import annotations

import base64
import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from cbw.cli import output
from cbw.core.key import ROLES, Key
from cbw.errors import CbwError, UsageError
from cbw.keys.allowed import ALLOWED, NAME, NAMELESS, Allowed, change, write
from cbw.keys.key_file import PUBLIC_SUFFIX, SECRET_SUFFIX, Z85, read_public, write_pair
from cbw.keys.status_token import STATUS_TOKEN, write_token
from cbw.settings import KEYS
from cbw.transport.curve import new_pair

_SERVERS = ("broker", "logger")
"""Those that others connect to. They read the file ``allowed``."""


@click.group("keys", context_settings={"max_content_width": 110})
def command() -> None:
    """Make keys, and say whose are let in. With keys everything is encrypted, and nobody gets in without one.

    \b
    cbw keys new keys
    cbw broker --keys keys  |  cbw worker --keys keys --handler shop:price  |  cbw call --keys keys

    A role needs only its own secret key, and the public keys broker.key and logger.key; a broker and a logger also need the file
    allowed. They read it again when it changes.
    """


def _in_folder(function: Callable[..., None]) -> Callable[..., None]:
    """``--keys``; the command gets the folder, and what is allowed there."""

    @functools.wraps(function)
    def with_folder(*arguments: Any, keys: str | None, **options: Any) -> None:
        if not keys:
            raise click.UsageError(f"which folder of keys? Give it with --keys DIR, or set {KEYS.environment}.")
        folder = Path(keys)
        function(*arguments, folder=folder, allowed=Allowed(folder / ALLOWED), **options)

    return click.option(
        "--keys", envvar=KEYS.environment, show_envvar=True, metavar="DIR", help="Folder that cbw keys new made."
    )(with_folder)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or folder}: {error.strerror}") from None


@command.command("new")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--owner", metavar="USER", help="User of this machine to whom the files are given, as root may do.")
def new_command(folder: Path, owner: str | None) -> None:
    """Make the folder DIR with a key for each role: broker, client, worker, logger and admin, who is a client that may also use
    cbw dead; and with status.token, which --status-token-file takes.
    """
    with _writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty", advice="Give a new folder: a key is never overwritten.")
        keys = []
        for role in ROLES:
            pair = new_pair()
            write_pair(folder, role, pair)
            keys.append(Key(role, pair.public, role))
        write(folder / ALLOWED, keys)
        write_token(folder)
        if owner:
            folder.chmod(0o711)  # whoever mounts single files of it has to find them
            for path in [folder, *folder.iterdir()]:
                _give(path, owner)
    output.line(f"made {len(keys)} keys in {folder}: {', '.join(ROLES)}")


def _give(path: Path, owner: str) -> None:
    try:
        shutil.chown(path, int(owner) if owner.isdecimal() else owner)
    except LookupError:
        raise UsageError(f"this machine has no user {owner!r}") from None


@command.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the key is for.")
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="SERVICE",
    help="Service that a worker may serve, or a client ask, with this key; empty: the nameless one. Default: all. May be "
    "repeated.",
)
@click.option(
    "--public",
    metavar="FILE",
    help="Allow the public key in this file, or given as 40 characters, instead of making a new key: its secret half then never "
    "leaves its machine.",
)
@_in_folder
def add_command(
    name: str, role: str, services: tuple[str, ...], public: str | None, folder: Path, allowed: Allowed
) -> None:
    """Allow a key called NAME. Its files are NAME.key and NAME.key_secret."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name[:100]!r} cannot be a name: up to 100 letters, digits, '_', '-' and '.'")
    if services and role in _SERVERS:
        raise UsageError(f"a key of role {role} is for no services", advice="Leave --service out.")
    if wrong := [service for service in services if len(service.split()) > 1 or service == NAMELESS]:
        raise UsageError(f"{wrong[0]!r} cannot stand in the file {ALLOWED}: it has blanks, or is two quotation marks")

    def with_key(keys: list[Key]) -> list[Key]:
        if any(key.name == name for key in keys):
            raise UsageError(f"there is a key called {name} already", advice=f"cbw keys revoke {name} takes it back.")
        if public is None:
            pair = new_pair()
            write_pair(folder, name, pair)
            half = pair.public
        else:
            half = public if Z85.fullmatch(public) else read_public(Path(public))
        if other := next((key for key in keys if key.public == half), None):
            raise UsageError(f"this key is allowed already: it is that of {other.name}")
        return [*keys, Key(role, half, name, services)]

    with _writing(folder):
        change(allowed.path, with_key)
    output.line(f"allowed {name} ({role})" + ("" if public else f": {folder / name}{SECRET_SUFFIX}"))


@command.command("list")
@_in_folder
def list_command(folder: Path, allowed: Allowed) -> None:
    """Print whose keys are allowed: name, role, services."""
    width = max((len(key.name) for key in allowed.keys), default=0)
    for key in allowed.keys:
        services = " ".join(service or NAMELESS for service in key.services) or "all services"
        output.line(f"{key.name:<{width}}  {key.role:<6}  {services}")


@command.command("revoke")
@click.argument("name")
@_in_folder
def revoke_command(name: str, folder: Path, allowed: Allowed) -> None:
    """Allow the key called NAME no more, and delete its files. Connections that use it are closed within a second."""
    key = next((key for key in allowed.keys if key.name == name), None)
    if key is None:
        raise UsageError(f"no key called {name} is allowed", advice="cbw keys list shows those that are.")
    with _writing(folder):
        change(allowed.path, lambda keys: [other for other in keys if other.name != name])
        if key.role not in _SERVERS:  # these are known by their keys
            for suffix in (PUBLIC_SUFFIX, SECRET_SUFFIX):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)
    output.line(f"revoked {name} ({key.role})")


@command.command("secret")
@click.option("--prefix", default="cbw-keys", show_default=True, help="Beginning of the Secrets' names.")
@_in_folder
def secret_command(prefix: str, folder: Path, allowed: Allowed) -> None:
    """Print Kubernetes Secrets: one for each key, with no more than its owner needs. Mount one as a volume, and give its path as
    CBW_KEYS.

    \b
    cbw keys secret --keys keys | kubectl apply -f -
    """
    for key in allowed.keys:
        own = folder / f"{key.name}{SECRET_SUFFIX}"
        if not own.exists():
            continue
        files = [own, *(folder / f"{server}{PUBLIC_SUFFIX}" for server in _SERVERS)]
        files += [folder / ALLOWED] if key.role in _SERVERS else []
        files += [token] if (token := folder / STATUS_TOKEN).exists() else []
        output.lines("\n".join(_secret(f"{prefix}-{key.name}".lower().replace("_", "-"), files)))


def _secret(name: str, files: list[Path]) -> list[str]:
    lines = ["---", "apiVersion: v1", "kind: Secret", "metadata:", f"  name: {name}", "type: Opaque", "data:"]
    for path in files:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CbwError(f"cannot read {path}: {error.strerror}") from None
        lines.append(f"  {path.name}: {base64.b64encode(data).decode()}")
    return lines
