"""Names of images: the grammar that docker, podman and the OCI distribution spec share.

    [domain[:port]/]path/component[:tag][@sha256:digest]

`docker.io/library/busybox:latest`, `busybox:latest` and `busybox` are one name; the store keeps the familiar form
`busybox:latest`. A name is only ever compared, never used as a path. Written without `re`: each `run` checks a name.
Source: distribution/reference, "Grammar".
"""

from __future__ import annotations

from minicontainer.errors import UsageError

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG = _WORD | frozenset("_.-")
_HEX = frozenset("0123456789abcdef")
_SEPARATORS = "._-"
NAME_MAX = 255  # bytes of a repository name, and so far from any limit of a JSON index
TAG_MAX = 128


def parse(text: str) -> str:
    """The familiar form "repository:tag" of a name; the tag defaults to latest. UsageError if it is no name.

    A digest (`name@sha256:…`) is refused: an imported image has no registry digest to be found by.
    """
    if "@" in text:
        raise _invalid(text, "a digest can't be looked up here")
    repository, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:  # localhost:5000/name has a colon, and no tag
        repository, tag = text, "latest"
    elif not tag or len(tag) > TAG_MAX or tag[0] in ".-" or not _TAG.issuperset(tag):
        raise _invalid(text, f"the tag '{tag}' is not 1 to {TAG_MAX} of A-Z a-z 0-9 _ . -")
    return f"{_repository(text, repository)}:{tag}"


def split(name: str) -> tuple[str, str]:
    """(repository, tag) of a familiar form that parse() made."""
    repository, _, tag = name.rpartition(":")
    return repository, tag


def is_id_prefix(text: str) -> bool:
    """Whether this could be the beginning of an image id (1 to 64 lower-case hex digits)."""
    return 0 < len(text) <= 64 and _HEX.issuperset(text)


def _repository(text: str, repository: str) -> str:
    domain, slash, path = repository.partition("/")
    if slash and ("." in domain or ":" in domain or domain == "localhost"):
        _check_domain(text, domain)
        if domain in ("docker.io", "index.docker.io"):
            domain = ""
            path = path.removeprefix("library/")
    else:
        domain, path = "", repository.removeprefix("library/")
    for component in path.split("/"):
        if not _is_component(component):
            raise _invalid(text, f"'{component}' is not lower-case letters and digits with single . _ __ or - between")
    if not domain and len(path) == 64 and _HEX.issuperset(path):
        raise _invalid(text, "64 hex digits would be an image id")
    full = f"{domain}/{path}" if domain else path
    if len(full) > NAME_MAX:
        raise _invalid(text[:40] + "…", f"longer than {NAME_MAX} characters")
    return full


def _check_domain(text: str, domain: str) -> None:
    host, colon, port = domain.partition(":")
    if colon and not (port.isascii() and port.isdigit()):
        raise _invalid(text, f"'{port}' is not a port")
    for label in host.split("."):
        if not label or not _WORD.issuperset(label.replace("-", "")) or label[0] == "-" or label[-1] == "-":
            raise _invalid(text, f"'{host}' is not a host name")


def _is_component(component: str) -> bool:
    """alphanumerics, joined by one '.', one '_', two '_' or any number of '-'."""
    run = ""
    for letter in component:
        if letter in _SEPARATORS:
            run += letter
        elif letter not in _LOWER or not (run in ("", ".", "_", "__") or run == "-" * len(run)):
            return False
        else:
            run = ""
    return component != "" and component[0] in _LOWER and run == ""


def _invalid(text: str, why: str) -> UsageError:
    return UsageError(f"invalid reference format: '{text}': {why}",
                      "A name looks like `busybox`, `team/app:1.2` or `host:5000/app:1.2`.")
