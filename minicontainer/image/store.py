"""The images of this machine: find them by name or id, list, name, inspect and remove them.

    store = Store("/var/lib/minicontainer")
    image = store.resolve("busybox")        on the path of `run`: three small files are read
    image.layers                            directories for overlayfs' lowerdir, top first

An image's id is the digest of its config, as docker's is. layout.py draws what is on disk.
"""

from __future__ import annotations

import os

from minicontainer.errors import Conflict, ImageError, NotFound, UsageError
from minicontainer.image import reference
from minicontainer.image.layout import ID_KEY, MANIFEST_TYPE, NAME_KEY, Layout, Lock, Work, hex_of
from minicontainer.kernel.calls import syncfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    ListedImages = list["Listed"]  # names for what the method `list` hides inside the class
    Descriptors = list[dict]
    Strings = list[str]

SIZE_KEY = "io.minicontainer.layer.size"  # annotation of a layer in its manifest: bytes of data unpacked
_NONE = "<none>"


class Image:
    """One image as its config describes it.

    name: as it was found ("busybox:latest"), or "" if found by id and without a name. id: "sha256:HEX".
    document: the OCI image config. config: its part for running (Env, Cmd, Entrypoint, WorkingDir, User, …).
    layers: absolute paths of the unpacked layers, top first, as overlayfs' lowerdir wants them.
    """

    __slots__ = ("config", "document", "id", "layers", "manifest_digest", "name")

    def __init__(self, name: str, id: str, manifest_digest: str, document: dict, layers: list[str]) -> None:
        self.name = name
        self.id = id
        self.manifest_digest = manifest_digest
        self.document = document
        self.config: dict = document.get("config") or {}
        self.layers = layers


class Listed:
    """A line of `images`: repository and tag ("<none>" without a name), id, created (RFC 3339), size in bytes."""

    __slots__ = ("created", "id", "repository", "size", "tag")

    def __init__(self, repository: str, tag: str, id: str, created: str, size: int) -> None:
        self.repository = repository
        self.tag = tag
        self.id = id
        self.created = created
        self.size = size


class Store:
    """The images below root. Nothing is made there before the first import."""

    __slots__ = ("layout",)

    def __init__(self, root: str) -> None:
        self.layout = Layout(os.path.abspath(root))

    # --- finding

    def resolve(self, ref: str) -> Image:
        """The image of a name (tag latest unless given), an id, or the beginning of one.

        NotFound; Conflict if several ids begin so; UsageError if ref is neither name nor id; ImageError if the store is
        damaged.
        """
        name, descriptor = _find(self._read(), ref)
        id = descriptor["annotations"][ID_KEY]
        document = self.layout.read_blob(id)
        layers = [self.layout.layer(diff_id) + "/fs" for diff_id in reversed(_diff_ids(document, ref))]
        for path in layers:
            if not os.path.isdir(path):
                raise ImageError(f"image {ref} is damaged: its layer {path} is gone", "Remove it and import it again.")
        return Image(name or descriptor["annotations"].get(NAME_KEY, ""), id, descriptor["digest"], document, layers)

    def reading(self) -> Lock:
        """`with store.reading():` no image goes away: to resolve one and record its use in one step.

        ImageError if there is no store yet, and so nothing to resolve.
        """
        return self.layout.lock(False)

    def _read(self) -> Descriptors:
        """The descriptors that this program wrote; what others added to the index is not touched."""
        return [d for d in self.layout.read_index() if ID_KEY in (d.get("annotations") or {})]

    # --- listing

    def list(self) -> ListedImages:
        """Every name, and every image without one; newest first."""
        lines = []
        for descriptor in self._read():
            id = descriptor["annotations"][ID_KEY]
            name = descriptor["annotations"].get(NAME_KEY)
            repository, tag = reference.split(name) if name else (_NONE, _NONE)
            created = self.layout.read_blob(id).get("created", "")
            lines.append(Listed(repository, tag, id, created, self._size(descriptor["digest"])))
        return sorted(lines, key=lambda line: line.created, reverse=True)

    def names(self, id: str) -> Strings:
        """All names of the image with this id."""
        return [d["annotations"][NAME_KEY] for d in self._read()
                if d["annotations"][ID_KEY] == id and NAME_KEY in d["annotations"]]

    def _size(self, manifest_digest: str) -> int:
        """Bytes of data in the unpacked layers."""
        layers = self.layout.read_blob(manifest_digest)["layers"]
        return sum(int(layer.get("annotations", {}).get(SIZE_KEY, layer["size"])) for layer in layers)

    def inspect(self, ref: str) -> dict:
        """What `docker image inspect` shows of an image, under docker's keys."""
        image = self.resolve(ref)
        document = image.document
        size = self._size(image.manifest_digest)
        data = {"UpperDir": image.layers[0]} if image.layers else {}
        if len(image.layers) > 1:
            data["LowerDir"] = ":".join(image.layers[1:])
        history = document.get("history") or [{}]
        return {"Id": image.id, "RepoTags": self.names(image.id), "RepoDigests": [], "Parent": "",
                "Comment": history[-1].get("comment", ""), "Created": document.get("created", ""),
                "Author": document.get("author", ""), "Config": image.config,
                "Architecture": document.get("architecture", ""), "Os": document.get("os", ""), "Size": size,
                "VirtualSize": size, "GraphDriver": {"Name": "overlay2", "Data": data},
                "RootFS": {"Type": "layers", "Layers": document["rootfs"]["diff_ids"]}}

    # --- changing

    def tag(self, ref: str, name: str) -> None:
        """Give the image ref a further name, which may so far have been another image's."""
        wanted = reference.parse(name)
        _find(self._read(), ref)  # without an image there may be nothing to lock
        with self.layout.lock(True):
            _, descriptor = _find(self._read(), ref)
            self._write(_named(self.layout.read_index(), descriptor, wanted))

    def remove(self, ref: str, force: bool = False, in_use: Callable[[], Mapping[str, str]] = dict) -> Strings:
        """Take a name away, and with the last one the image; blobs and layers that nothing names any more go too.

        in_use: called with the store locked, tells which image ids containers use, each with one container's name.
        Returns docker's lines ("Untagged: …", "Deleted: sha256:…"). Conflict if a container uses the image (force then
        only takes the name away), or if ref is an id and the image has several names (force takes them all).
        """
        _find(self._read(), ref)  # without an image there may be nothing to lock
        with Work(self.layout) as work, self.layout.lock(True):
            by_name, descriptor = _find(self._read(), ref)
            id = descriptor["annotations"][ID_KEY]
            everything = self.layout.read_index()
            same = [d for d in self._read() if d["annotations"][ID_KEY] == id]
            leaving = [d for d in same if not by_name or d["annotations"].get(NAME_KEY) == by_name]
            names = [d["annotations"][NAME_KEY] for d in leaving if NAME_KEY in d["annotations"]]
            if len(names) > 1 and not force:
                raise Conflict(f"image {ref} has several names: {', '.join(names)}",
                               "Remove them by name, or all with --force.")
            lines = [f"Untagged: {name}" for name in names]
            kept = [d for d in everything if d not in leaving]
            if len(leaving) == len(same):
                user = in_use().get(id)
                if user is not None:
                    if not (force and by_name):
                        raise Conflict(f"image {ref} is used by container {user}",
                                       f"Remove the container first: `minicontainer rm -f {user}`.")
                    kept.append(_descriptor(descriptor, id, ""))
                else:
                    lines.append(f"Deleted: {id}")
            self._write(kept)
            self._collect(work)
        return lines

    def publish(self, work: Work, name: str, config: bytes, manifest: bytes, blobs: dict[str, str],
                layers: dict[str, str]) -> str:
        """Make an image of what stands in work, at once and whole; returns its id.

        name: familiar form or "". blobs: {digest: file in work}; layers: {diff_id: directory in work, which has fs/}.
        """
        import hashlib

        id = "sha256:" + hashlib.sha256(config).hexdigest()
        digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
        for file, content in (("config", config), ("manifest", manifest)):
            fd = work.create(file)
            os.write(fd, content)
            os.close(fd)
        syncfs(work.fd)  # one flush of the file system, where an fsync for each file would take a second per thousand
        descriptor = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(manifest)}
        with self.layout.lock(True):
            for diff_id, directory in layers.items():
                if not os.path.isdir(self.layout.layer(diff_id)):
                    os.rename(f"{work.path}/{directory}", self.layout.layer(diff_id))
            for blob, file in {**blobs, id: "config", digest: "manifest"}.items():
                os.rename(f"{work.path}/{file}", self.layout.blob(blob))
            self._write(_named(self.layout.read_index(), _descriptor(descriptor, id, ""), name))
        return id

    def _write(self, manifests: Descriptors) -> None:
        """Replace the index; an image that has a name needs no entry without one."""
        named = {d["annotations"][ID_KEY] for d in manifests if NAME_KEY in (d.get("annotations") or {})
                 and ID_KEY in d["annotations"]}
        seen: set[str] = set()
        kept = []
        for d in manifests:
            notes = d.get("annotations") or {}
            id = notes.get(ID_KEY)
            if id is not None and NAME_KEY not in notes:
                if id in named or id in seen:
                    continue
                seen.add(id)
            kept.append(d)
        self.layout.write_index(kept)

    def _collect(self, work: Work) -> None:
        """Remove blobs and layers that no image leads to. The caller holds the lock; layers are only moved to work."""
        blobs: set[str] = set()
        layers: set[str] = set()
        for descriptor in self.layout.read_index():
            manifest = self.layout.read_blob(descriptor["digest"])
            blobs.add(hex_of(descriptor["digest"]))
            blobs.add(hex_of(manifest["config"]["digest"]))
            blobs.update(hex_of(layer["digest"]) for layer in manifest["layers"])
            config = self.layout.read_blob(manifest["config"]["digest"])
            layers.update(hex_of(diff_id) for diff_id in _diff_ids(config, manifest["config"]["digest"]))
        for name in os.listdir(self.layout.blobs):
            if name not in blobs:
                os.unlink(f"{self.layout.blobs}/{name}")
        for name in os.listdir(self.layout.layers):
            if name not in layers:
                os.rename(f"{self.layout.layers}/{name}", f"{work.path}/{name}")


def _diff_ids(document: dict, ref: str) -> list[str]:
    """The layers that an image config names, lowest first. ImageError if it names none in the way it should."""
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list):
        raise ImageError(f"image {ref} is damaged: its config has no rootfs.diff_ids", "Remove it and import it again.")
    return rootfs["diff_ids"]


def _descriptor(descriptor: dict, id: str, name: str) -> dict:
    """A descriptor of the image's manifest with this name, or none."""
    notes = {ID_KEY: id, NAME_KEY: name} if name else {ID_KEY: id}
    return {**{key: descriptor[key] for key in ("mediaType", "digest", "size")}, "annotations": notes}


def _named(manifests: list[dict], descriptor: dict, name: str) -> list[dict]:
    """manifests with the image of descriptor under that name; the image that had it keeps an entry without a name."""
    id = descriptor["annotations"][ID_KEY]
    others = []
    for d in manifests:
        notes = d.get("annotations") or {}
        loses_name = name and notes.get(NAME_KEY) == name and ID_KEY in notes
        others.append(_descriptor(d, notes[ID_KEY], "") if loses_name else d)
    return [*others, _descriptor(descriptor, id, name)]


def _find(manifests: list[dict], ref: str) -> tuple[str, dict]:
    """(the name it was found by, "" if by id; its descriptor). Docker's order: whole id, name, beginning of an id."""
    is_id = ref.startswith("sha256:")
    prefix = ref.removeprefix("sha256:")
    if is_id and not reference.is_id_prefix(prefix):
        raise UsageError(f"invalid reference format: '{ref}': an id is hex digits")
    if not is_id and len(prefix) != 64:
        wanted = reference.parse(ref)
        for descriptor in manifests:
            if descriptor["annotations"].get(NAME_KEY) == wanted:
                return wanted, descriptor
    if reference.is_id_prefix(prefix):
        matches = [d for d in manifests if d["annotations"][ID_KEY].startswith("sha256:" + prefix)]
        if len({d["annotations"][ID_KEY] for d in matches}) > 1:
            raise Conflict(f"several image ids begin with '{ref}'",
                           "Write more of the id; `minicontainer images` lists them.")
        if matches:
            return "", matches[0]
    raise NotFound(f"no such image: {ref}", "`minicontainer images` lists what there is; import a rootfs tarball with "
                                            "`minicontainer import FILE NAME`.")
