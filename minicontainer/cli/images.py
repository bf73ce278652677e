"""import, images, rmi, tag, image …: rootfs tarballs and what became of them."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from time import time

from minicontainer.cli.common import age, at_least, helped, root_needed, size, table
from minicontainer.cli.flags import Flag, parse
from minicontainer.cli.show import INSPECT_FLAGS, show
from minicontainer.engine.config import Config
from minicontainer.engine.container import every
from minicontainer.errors import UsageError
from minicontainer.image.store import Store

IMPORT_FLAGS = (
    Flag("change", "c", "list", 'Apply Dockerfile instruction to the created image (CMD ["sh"], ENV A=b …)'),
    Flag("message", "m", help="Set commit message for imported image"),
    Flag("quiet", "q", "bool", "Show no progress"),
)
IMAGES_FLAGS = (
    Flag("all", "a", "bool", "Show all images (there are no intermediate ones)"),
    Flag("no-trunc", kind="bool", help="Don't truncate output"),
    Flag("quiet", "q", "bool", "Only show image IDs"),
    Flag("format", help="Format output using a template, or json"),
)


def import_(config: Config, argv: list[str]) -> int:
    """import [OPTIONS] FILE|- [REPOSITORY[:TAG]]"""
    values, args = parse(IMPORT_FLAGS, argv, command="minicontainer import")
    if helped(
        values,
        "minicontainer import [OPTIONS] FILE|- [REPOSITORY[:TAG]]",
        "Import a root file system tarball (plain, gzip, xz or zstd) as an image",
        IMPORT_FLAGS,
    ):
        return 0
    at_least(args, 1, "import")
    if len(args) > 2:
        raise UsageError('"minicontainer import" requires at most 2 arguments.', "See 'minicontainer import --help'.")
    root_needed()
    from minicontainer.image.importer import import_rootfs

    source = sys.stdin.buffer if args[0] == "-" else args[0]
    progress = None
    if not values["quiet"] and os.isatty(2):
        from minicontainer.cli.progress import Progress

        progress = Progress("Importing")
    try:
        ident = import_rootfs(
            Store(config.root),
            source,
            args[1] if len(args) > 1 else "",
            changes=values["change"],
            message=values["message"],
            progress=progress,
            warn=lambda text: print(f"WARNING: {text}", file=sys.stderr),
        )
    finally:
        if progress:
            progress.close()
    print(ident)
    return 0


def images_(config: Config, argv: list[str]) -> int:
    """images [OPTIONS] [REPOSITORY[:TAG]]"""
    values, args = parse(IMAGES_FLAGS, argv, command="minicontainer images")
    if helped(values, "minicontainer images [OPTIONS] [REPOSITORY[:TAG]]", "List images", IMAGES_FLAGS):
        return 0
    rows = []
    for image in Store(config.root).list():
        if args and args[0] not in (image.repository, f"{image.repository}:{image.tag}"):
            continue
        rows.append(
            {
                "Repository": image.repository,
                "Tag": image.tag,
                "ID": image.id if values["no-trunc"] else image.id.removeprefix("sha256:")[:12],
                "CreatedSince": age(time() - datetime.fromisoformat(image.created).timestamp()) + " ago"
                if image.created
                else "N/A",
                "Size": size(image.size),
            }
        )
    if values["quiet"]:
        print("".join(f"{i}\n" for i in dict.fromkeys(r["ID"] for r in rows)), end="")
    elif values["format"] == "json":
        print("".join(json.dumps(r) + "\n" for r in rows), end="")
    elif values["format"]:
        from minicontainer.cli.template import render

        print("".join(render(values["format"].removeprefix("table "), r) + "\n" for r in rows), end="")
    else:
        print(table([["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], *(list(r.values()) for r in rows)]), end="")
    return 0


def rmi_(config: Config, argv: list[str]) -> int:
    """rmi [OPTIONS] IMAGE [IMAGE...]"""
    flags = (Flag("force", "f", "bool", "Force removal of the image"),)
    values, names = parse(flags, argv, command="minicontainer rmi")
    if helped(values, "minicontainer rmi [OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", flags):
        return 0
    at_least(names, 1, "rmi")
    root_needed()
    store, code = Store(config.root), 0

    def in_use() -> dict[str, str]:
        return {c.record["image_id"]: c.name for c in every(config)}

    def remove(name: str) -> None:
        print("\n".join(store.remove(name, values["force"], in_use)))

    from minicontainer.errors import MinicontainerError

    for name in names:
        try:
            remove(name)
        except MinicontainerError as e:
            print(f"Error response: {e.message}" + (f"\n{e.hint}" if e.hint else ""), file=sys.stderr)
            code = 1
    return code


def tag_(config: Config, argv: list[str]) -> int:
    """tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]"""
    values, args = parse((), argv, command="minicontainer tag")
    if helped(values, "minicontainer tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Give an image one more name", ()):
        return 0
    if len(args) != 2:
        raise UsageError('"minicontainer tag" requires exactly 2 arguments.', "See 'minicontainer tag --help'.")
    root_needed()
    Store(config.root).tag(args[0], args[1])
    return 0


def image_(config: Config, argv: list[str]) -> int:
    """image ls|inspect|rm|import|tag …"""
    verbs = {"ls": images_, "list": images_, "rm": rmi_, "remove": rmi_, "import": import_, "tag": tag_, "inspect": _inspect}
    if not argv or argv[0] not in verbs:
        if argv and argv[0] not in ("--help", "-h"):
            raise UsageError(f"'{argv[0]}' is not a minicontainer image command.", f"commands are {', '.join(verbs)}")
        print(f"Usage:  minicontainer image COMMAND\n\nManage images\n\nCommands: {', '.join(verbs)}")
        return 0
    return verbs[argv[0]](config, argv[1:])


def _inspect(config: Config, argv: list[str]) -> int:
    values, names = parse(INSPECT_FLAGS, argv, command="minicontainer image inspect")
    if helped(
        values, "minicontainer image inspect [OPTIONS] IMAGE [IMAGE...]", "Display detailed information on images", INSPECT_FLAGS
    ):
        return 0
    at_least(names, 1, "image inspect")
    show([Store(config.root).inspect(n) for n in names], values["format"])
    return 0
