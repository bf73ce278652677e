"""Making a container: an image or a directory, a name, a folder on disk. Nothing runs yet."""

from __future__ import annotations

import os
from time import time_ns

from minicontainer.engine import container as box
from minicontainer.engine.config import Config
from minicontainer.engine.container import Container, Life
from minicontainer.engine.names import new_id, random_name
from minicontainer.engine.options import RunOptions
from minicontainer.errors import Conflict, NotFound, UsageError


class Root:
    """What a container's root is made of: image name and id ("" for a directory), its config, layer paths (topmost first)."""

    __slots__ = ("config", "directory", "image_id", "image_name", "layers")

    def __init__(self, image_name: str, image_id: str, config: dict, layers: list[str], directory: str = "") -> None:
        self.image_name = image_name
        self.image_id = image_id
        self.config = config
        self.layers = layers
        self.directory = directory


def find_root(config: Config, options: RunOptions) -> Root:
    """The image or directory that options name. NotFound for an image that is not there."""
    if options.rootfs:
        directory = os.path.abspath(options.rootfs)
        if not os.path.isdir(directory):
            raise UsageError(f'--rootfs "{options.rootfs}" is not a directory', "give the folder that holds /bin, /etc …")
        return Root(directory, "", {}, [directory], directory)
    from minicontainer.image.store import Store

    image = Store(config.root).resolve(options.image)
    return Root(options.image, image.id, image.config, image.layers)


def create(config: Config, options: RunOptions, argv: list[str], root: Root | None = None) -> tuple[Container, Life]:
    """A container on disk, its life begun and held by us: start it, or end its life to leave it `created`.

    argv: the command line that made it, for people. Conflict when the name is taken.
    """
    root = root or find_root(config, options)
    ident = new_id()
    life = Life.begin(config, ident)
    container = Container(config, ident, {})
    try:
        name = _take_name(config, options, life)
        container.record = _record(container, name, options, root, argv)
        _make_folder(container, root)
        _put_on_record(container, root)
    except BaseException:
        from minicontainer.engine.end import remove_files

        remove_files(container, name=container.record.get("name", options.name))
        life.end()
        raise
    if options.cidfile:
        _write_cidfile(options.cidfile, ident)
    return container, life


def _put_on_record(container: Container, root: Root) -> None:
    """Writes container.json, from which `rmi` learns that the image is used; it can't have run since the image was found."""
    path = f"{container.dir}/container.json"
    if root.directory:
        box.write_json(path, container.record)
        return
    from minicontainer.image.store import Store

    with Store(container.config.root).reading():
        if not all(os.path.isdir(layer) for layer in root.layers):
            raise NotFound(f"image {root.image_name} was removed meanwhile", "import it again")
        box.write_json(path, container.record)


def describe_only(config: Config, options: RunOptions) -> Container:
    """A container as `create` would make it, of which nothing is made (--dry-run)."""
    ident = "0" * box.ID_HEX
    container = Container(config, ident, {})
    container.record = _record(container, options.name or "dry-run", options, find_root(config, options), [])
    return container


def _take_name(config: Config, options: RunOptions, life: Life) -> str:
    """Reserves the name, noted in the state before it is taken: a crash in between leaves nothing that can't be found."""
    for attempt in range(100):
        name = options.name or random_name(attempt)
        life.save(status="creating", name=name, remove=options.rm)
        try:
            box.reserve_name(config, name, life.ident)
            return name
        except Conflict:
            if options.name:
                raise
    raise Conflict("no free random name after 100 tries", "give one with --name")


def _record(container: Container, name: str, options: RunOptions, root: Root, argv: list[str]) -> dict:
    return {
        "id": container.ident,
        "name": name,
        "created_ns": time_ns(),
        "image": root.image_name,
        "image_id": root.image_id,
        "options": options.to_dict(),
        "image_config": root.config,
        "rootfs": root.directory,
        "layers": [os.path.relpath(p, container.config.root) if not root.directory else p for p in root.layers],
        "argv": argv,
    }


def _make_folder(container: Container, root: Root) -> None:
    box.make_private(container.dir)
    if root.directory:
        return
    for name in ("upper", "work", "merged"):
        os.mkdir(f"{container.dir}/{name}", 0o755)
    # The upper directory's owner and mode are what / shows in the container.
    top = os.stat(root.layers[0])
    os.chmod(f"{container.dir}/upper", top.st_mode & 0o7777)
    os.chown(f"{container.dir}/upper", top.st_uid, top.st_gid)


def _write_cidfile(path: str, ident: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise Conflict(f"container ID file found, make sure the other container isn't running or delete {path}") from None
    os.write(fd, ident.encode())
    os.close(fd)
