"""Images: tarballs in, verified blobs and unpacked layers on disk, names that lead to them.

    tarball ──▶ feed (one thread: read, decompress, hash, write the blob)
                  │ chunks of plain tar
                  ▼
                tar (strict headers) ──▶ unpack (directory descriptors only) ──▶ layers/<diff_id>/fs
                                                                                   │
    reference, layout ──▶ store (names, ids, in one OCI image layout) ◀── importer ┘
                            │
                            └──▶ Image ──▶ union, users (files of an image, read as its container would see them)

Nothing from an image is trusted here: no member of a tarball reaches outside its layer (unpack), no path of an image is
resolved by string (unpack, union), no name becomes a path (reference, layout), and what is not whole has no name.

On the path of `run`: layout, store, reference, union, users. They import nothing heavy; the others are imported late.
"""
