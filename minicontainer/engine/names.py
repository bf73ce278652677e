"""Names and ids of containers: docker's rules for them, and made-up ones."""

from __future__ import annotations

import os

from minicontainer.errors import UsageError

_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_CHARACTERS = _ALPHANUMERIC | frozenset("_.-")
# A moment's cheer in every `ps`: how a container can be, and people who made computing and science what
# they are.
_ADJECTIVES = (
    "able agile amber ample apt blithe bold brave breezy bright brisk calm candid careful cheery civil "
    "clever cosmic crisp curious dapper daring deft driven eager earnest easy elated fair fearless "
    "festive fleet fluent fond frank friendly gentle gifted glad golden graceful grand happy hardy hearty "
    "honest hopeful humble jolly jovial keen kind lively lucid lucky mellow merry mighty modest neat "
    "nimble noble patient plucky polite prompt proud quick quiet ready robust serene sharp silent sincere "
    "smart smooth snappy sober spry steady stoic sunny swift tender thrifty tidy trusty upbeat valiant "
    "vivid warm wise witty young zany zesty"
)
_SURNAMES = (
    "agnesi allen archimedes babbage banneker bartik bell bernerslee blackwell bohr boole bose "
    "brahmagupta carson cerf chandrasekhar church clarke conway copernicus cray curie darwin diffie "
    "dijkstra easley einstein engelbart erdos euclid euler faraday fermat fermi feynman franklin galileo "
    "gauss germain goldberg goodall hamilton hawking hopper huygens hypatia jang jemison johnson joliot "
    "kalam kay keller kepler khorana kilby knuth kovalevskaya lamarr lamport leavitt leibniz liskov "
    "lovelace mayer mccarthy mcclintock meitner mendel mirzakhani moore napier nash newton nightingale "
    "noether noyce pascal pasteur payne perlman planck raman ramanujan ride ritchie rubin sammet "
    "shannon shockley sinoussi sutherland tesla thompson torvalds turing vaughan villani "
    "wiles wing wozniak wright wu yalow"
)


def check_name(name: str) -> str:
    """The name, if a container can have it. Raises UsageError.

    Two characters or more, as in docker, so that no name is one character of an id; no more than a host
    name's 253.
    """
    if len(name) < 2 or not _NAME_CHARACTERS.issuperset(name) or name[0] not in _ALPHANUMERIC:
        raise UsageError(f'Invalid container name ({name}) in "--name", only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed')
    if len(name) > 253:
        raise UsageError(f'Container name in "--name" is too long ({len(name)} characters)', "253 are allowed")
    return name


def random_name(attempt: int = 0) -> str:
    """ "swift_hopper"; from the second attempt to find a free one on, with a digit at its end."""
    adjective, surname = _draw(_ADJECTIVES), _draw(_SURNAMES)
    return f"{adjective}_{surname}" + (str(os.urandom(1)[0] % 10) if attempt else "")


def _draw(words: str) -> str:
    choices = words.split()
    return choices[int.from_bytes(os.urandom(4), "little") % len(choices)]


def new_id() -> str:
    """64 hex digits.

    The first 12, a container's short id and host name, are never all decimal (RFC 1123 forbids it).
    """
    while True:
        made = os.urandom(32).hex()
        if not made[:12].isdigit():
            return made
