"""What -v, --mount and --tmpfs mean: three spellings of one `Mount`.

The same contract as in values: text in, plain data out, ValueError with the reason. Nothing here looks at
the host but the current directory, which a source that begins with "." is relative to.
"""

from __future__ import annotations

import os

from minicontainer.engine.values import size_bytes, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Mount(TypedDict, total=False):
        """One mount as the user asked for it.

        type: "bind", "volume" or "tmpfs"; source: absolute path, volume name, or "" (anonymous volume,
        tmpfs). propagation: "" or a word of mount(8) like "rslave". recursive: "enabled", "disabled" (this
        mount alone), "writable" (read-only, but what is mounted below is not) or "readonly" (an error where
        that can't be had). create_source: make a missing bind source, as -v does. nocopy: don't fill a new
        volume from the image. labels: of a new volume. options: of a tmpfs, mount(8)'s words.
        """

        type: str
        source: str
        target: str
        read_only: bool
        propagation: str
        recursive: str
        create_source: bool
        nocopy: bool
        labels: dict[str, str]
        options: list[str]


PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_CONSISTENCY = ("consistent", "cached", "delegated")
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
# mount(8) words that undo each other; a later one of a pair replaces an earlier one.
_TMPFS_WORDS = {
    word: pair[0]
    for pair in (
        ("ro", "rw"), ("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev"), ("sync", "async"),
        ("noatime", "atime"), ("nodiratime", "diratime"), ("relatime", "norelatime"),
        ("strictatime", "nostrictatime"), PROPAGATIONS,
    )
    for word in pair
}  # fmt: skip
_TMPFS_KEYS = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"))


def volume(text: str) -> Mount:
    """One -v: "/dst" or "name:/dst[:opts]" or "/src:/dst[:opts]".

    opts, with commas: ro, rw, z, Z (SELinux; nothing to do without it), nocopy, a propagation.
    """
    parts = text.split(":")
    if not text or len(parts) > 3 or "" in parts:
        reason = "too many colons" if len(parts) > 3 else "empty section between colons"
        raise ValueError(f"invalid spec: {text}: {reason} ([source:]destination[:options])")
    if len(parts) == 1:
        return {"type": "volume", "source": "", "target": mount_target(text)}
    source, target, words = parts[0], parts[1], parts[2].split(",") if len(parts) == 3 else []
    if len(parts) == 2 and not target.startswith("/") and all(_is_volume_word(word) for word in target.split(",")):
        raise ValueError(f"invalid volume specification: '{text}' (a mode needs a source and a destination before it)")
    source = _absolute_source(source)
    mount: Mount = {"type": "bind" if source.startswith("/") else "volume", "source": source}
    mount["target"] = mount_target(target)
    if mount["type"] == "bind":
        mount["source"] = _clean(source)
        mount["create_source"] = True
    else:
        check_volume_name(source)
    _volume_words(mount, words, text)
    return mount


def _volume_words(mount: Mount, words: list[str], text: str) -> None:
    seen: set[str] = set()
    for word in words:
        group = "rw" if word in ("ro", "rw") else "label" if word in ("z", "Z") else word
        group = "propagation" if word in PROPAGATIONS else "consistency" if word in _CONSISTENCY else group
        if not _is_volume_word(word) or group in seen:
            raise ValueError(f"invalid mode: {text.split(':')[2]} (ro or rw, nocopy, z or Z, a propagation like rslave)")
        seen.add(group)
        if word == "ro":
            mount["read_only"] = True
        elif word == "nocopy":
            mount["nocopy"] = True
        elif group == "propagation":
            if mount["type"] != "bind":
                raise ValueError(f"propagation '{word}' is for binds; '{mount['source']}' is a volume")
            mount["propagation"] = word


def _is_volume_word(word: str) -> bool:
    return word in ("ro", "rw", "z", "Z", "nocopy") or word in PROPAGATIONS or word in _CONSISTENCY


def mount(text: str) -> Mount:
    """One --mount: "type=bind,source=/src,target=/dst,readonly", with docker's keys."""
    if not text.strip():
        raise ValueError("value is empty (type=bind,source=/src,target=/dst)")
    result: Mount = {"type": "volume", "source": "", "target": ""}
    given: list[str] = []
    size = mode = ""
    for field in _csv_fields(text.strip()):
        key, value = _mount_field(field)
        given.append(key)
        if key == "type":
            result["type"] = value.lower()
        elif key in ("source", "src"):
            result["source"] = _absolute_source(value)
        elif key in ("target", "dst", "destination"):
            result["target"] = mount_target(value)
        elif key in ("readonly", "ro"):
            result["read_only"] = _mount_bool(key, value)
        elif key == "tmpfs-size":
            size = f"size={_tmpfs_size(value)}"
        elif key == "tmpfs-mode":
            mode = f"mode={_octal(value):o}"
        else:
            _typed_option(result, key, value)
    _check_mount(result, given)
    if result["type"] == "tmpfs":
        result["options"] = [option for option in ("ro" if result.pop("read_only", False) else "", mode, size) if option]
    return result


def _mount_field(field: str) -> tuple[str, str]:
    """key and value of one field of --mount; the words that may stand alone have the value "true"."""
    key, equals, value = field.partition("=")
    if key.strip() != key:
        raise ValueError(f"invalid option '{key.strip()}' in '{field}': option should not have whitespace")
    key = key.lower()
    if not equals:
        if key not in ("readonly", "ro", "volume-nocopy", "bind-create-src"):
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        return key, "true"
    if not value.strip():
        raise ValueError(f"invalid value for '{key}': value is empty")
    if value.strip() != value:
        raise ValueError(f"invalid value for '{key}' in '{field}': value should not have whitespace")
    return key, value


def _typed_option(result: Mount, key: str, value: str) -> None:
    """The keys that begin with the type they belong to."""
    if key == "consistency":
        return  # docker accepts it everywhere; only Docker Desktop does anything with it
    if key == "bind-propagation":
        if value.lower() not in PROPAGATIONS:
            raise ValueError(f"invalid propagation mode: {value} (one of {', '.join(PROPAGATIONS)})")
        result["propagation"] = value.lower()
    elif key == "bind-recursive":
        if value not in ("enabled", "disabled", "writable", "readonly"):
            raise ValueError(f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")')
        result["recursive"] = value
    elif key == "bind-create-src":
        result["create_source"] = _mount_bool(key, value)
    elif key == "volume-nocopy":
        result["nocopy"] = _mount_bool(key, value)
    elif key == "volume-subpath":
        raise ValueError("minicontainer mounts whole volumes: a link in one could lead out of it (bind the directory)")
    elif key == "volume-label":
        name, _, content = value.partition("=")
        result.setdefault("labels", {})[name] = content
    elif key == "volume-driver":
        if value != "local":
            raise ValueError(f"minicontainer has no volume drivers but local, so not '{value}'")
    elif key == "volume-opt":
        raise ValueError("minicontainer's volumes are directories without options; mount on the host and bind that")
    elif key == "bind-nonrecursive":
        raise ValueError("bind-nonrecursive is deprecated, use bind-recursive=disabled instead")
    else:
        raise ValueError(f"unknown option '{key}' in '{key}={value}'")


def _check_mount(mount: Mount, given: list[str]) -> None:
    kind, source = mount["type"], mount["source"]
    if kind not in ("bind", "volume", "tmpfs"):
        raise ValueError(f"mount type unknown: '{kind}' (bind, volume or tmpfs)")
    for key in given:
        family = key.partition("-")[0]
        if family in ("bind", "volume", "tmpfs") and "-" in key and family != kind:
            raise ValueError(f"cannot mix '{family}-*' options with mount type '{kind}'")
    if not mount["target"]:
        raise ValueError(f'invalid mount config for type "{kind}": field Target must not be empty (target=/path)')
    if kind == "bind":
        if not source.startswith("/"):
            reason = f"'{source}' mount path must be absolute" if source else "field Source must not be empty"
            raise ValueError(f'invalid mount config for type "bind": {reason} (source=/path)')
        mount["source"] = _clean(source)
        _check_recursion(mount)
    elif kind == "tmpfs" and source:
        raise ValueError('invalid mount config for type "tmpfs": field Source must not be specified')
    elif kind == "volume" and source:
        check_volume_name(source)


def _check_recursion(mount: Mount) -> None:
    recursive = mount.get("recursive", "enabled")
    if recursive in ("writable", "readonly") and not mount.get("read_only"):
        raise ValueError(f"option 'bind-recursive={recursive}' requires 'readonly' to be specified in conjunction")
    if recursive == "readonly" and mount.get("propagation") != "rprivate":
        raise ValueError("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")


def tmpfs(text: str) -> Mount:
    """One --tmpfs: "/dst[:options]", options with commas as mount(8)'s for tmpfs: size=64m,mode=1770,exec."""
    target, _, options = text.partition(":")
    words = [word for word in options.split(",") if word]
    for word in words:
        key, equals, value = word.partition("=")
        if word not in _TMPFS_WORDS and not (key in _TMPFS_KEYS and equals and value):
            raise ValueError(f"invalid tmpfs option [{word}] (like size=64m, mode=1770, uid=1000, exec)")
    return {"type": "tmpfs", "source": "", "target": mount_target(target), "options": words}


def merge_tmpfs_options(words: list[str]) -> list[str]:
    """Options without those that a later one undoes: ["noexec", "size=1m", "exec"] is ["size=1m", "exec"]."""
    last = {_TMPFS_WORDS.get(word, word.partition("=")[0]): index for index, word in enumerate(words)}
    return [words[index] for index in sorted(last.values())]


def mount_target(text: str) -> str:
    """A path in the container: absolute, cleaned, and not "/"."""
    if not text.startswith("/"):
        raise ValueError(f"invalid mount path: '{text}' mount path must be absolute")
    path = _clean(text)
    if path == "/":
        raise ValueError("invalid specification: destination can't be '/'")
    return path


def check_volume_name(name: str) -> None:
    """ValueError unless name can be a volume: two or more of [a-zA-Z0-9_.-], the first a letter or digit."""
    if not _NAME_CHARACTERS.issuperset(name) or not name[:1].isalnum():
        raise ValueError(
            f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" '
            "are allowed. If you intended to pass a host directory, use absolute path"
        )
    if len(name) < 2:
        raise ValueError("volume name is too short, names should be at least two alphanumeric characters")
    if len(name) > 255:
        raise ValueError("volume name is too long (255 characters at most)")


def _absolute_source(source: str) -> str:
    return os.path.join(os.getcwd(), source) if source.startswith(".") else source


def _clean(path: str) -> str:
    return "/" + os.path.normpath(path).lstrip("/")


def _csv_fields(text: str) -> list[str]:
    """The fields of one CSV line: a field with a comma stands in double quotes."""
    import _csv  # the csv module would load re

    try:
        (fields,) = _csv.reader([text], strict=True)
    except (_csv.Error, ValueError):
        raise ValueError(f"'{text}' is not one line of comma-separated fields") from None
    return fields


def _mount_bool(key: str, value: str) -> bool:
    if value in ("1", "true"):
        return True
    if value in ("0", "false"):
        return False
    raise ValueError(
        f"invalid value for '{key}': invalid boolean value (\"{value}\"): must be one of "
        '"true", "1", "false", or "0" (default "true")'
    )


def _tmpfs_size(text: str) -> int:
    try:
        return size_bytes(text)
    except ValueError as reason:
        raise ValueError(f"invalid value for tmpfs-size: {text}: {reason}") from None


def _octal(text: str) -> int:
    try:
        return whole_number("0o" + text.removeprefix("0o"))
    except ValueError:
        raise ValueError(f"invalid value for tmpfs-mode: {text} (octal, like 1770)") from None
