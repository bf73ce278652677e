/* Ops on paths that may be an image's: every look-up stays below a descriptor, whatever links and racing renames there are.
 *
 * A part of ops.c, which includes it. */
#include <linux/fcntl.h>
#include <linux/openat2.h>

#define PATH_MAX 4096
#define LINKS_AT_MOST 40 /* as many as the kernel follows, path_resolution(7) */

static long openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve };
	long fd = -EAGAIN;

	for (int i = 0; fd == -EAGAIN && i < TRIES_AT_MOST; i++)
		fd = sys4(__NR_openat2, dir, path, &how, sizeof how);
	return fd;
}

static long op_write(int dir, const char *path, const char *data, uint64_t len, uint64_t flags, uint64_t resolve)
{
	long fd = openat2(dir, path, flags, flags & O_CREAT ? 0644 : 0, resolve);

	if (fd < 0)
		return fd;
	/* One write: cgroup and proc files take a value as a whole, and a short write there is a failure. */
	long n = sys3(__NR_write, fd, data, len);

	sys1(__NR_close, fd);
	return n < 0 || n == (long)len ? n : -EIO;
}

/* In `path` the link `name`, which ends at `end`, is replaced by its target; EEXIST if it is no link. */
static long follow(int parent, char *path, const char *name, size_t begin, size_t end)
{
	char link[PATH_MAX], rest[PATH_MAX];
	long n = sys4(__NR_readlinkat, parent, name, link, sizeof link);
	size_t i = 0, to = n > 0 && link[0] == '/' ? 0 : begin;

	if (n < 0)
		return -EEXIST;
	while (path[end])
		rest[i++] = path[end++];
	rest[i] = 0;
	if (to + (size_t)n + i >= PATH_MAX)
		return -ENAMETOOLONG;
	for (long k = 0; k < n; k++)
		path[to++] = link[k];
	for (i = 0; rest[i]; i++)
		path[to++] = rest[i];
	path[to] = 0;
	return -EEXIST;
}

/* One walk along `path`; EEXIST after it met a link to what is not there yet, which is then replaced in `path`. */
static long make_along(int root, char *path, uint64_t mode, int file, uint64_t resolve)
{
	const uint64_t in_root = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve;
	char prefix[PATH_MAX];
	long parent = root, fd = openat2(root, path, O_PATH, 0, in_root);
	size_t i = 0, name = 0;

	if (fd != -ENOENT)
		return fd;
	while (path[i]) {
		while (path[i] == '/')
			prefix[i] = '/', i++;
		name = i;
		while (path[i] && path[i] != '/')
			prefix[i] = path[i], i++;
		if (i == name)
			break;
		prefix[i] = 0;
		fd = openat2(root, prefix, O_PATH, 0, in_root);
		if (fd == -ENOENT) {
			if (file && !path[i]) {
				fd = openat2(parent, prefix + name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, mode, 0);
				if (fd >= 0)
					fd = sys1(__NR_close, fd);
			} else {
				fd = sys3(__NR_mkdirat, parent, prefix + name, file ? 0755 : mode);
			}
			if (fd == -EEXIST && !(resolve & RESOLVE_NO_SYMLINKS)) /* else what is new there is looked at again */
				fd = follow(parent, path, prefix + name, name, i);
			if (fd >= 0)
				fd = openat2(root, prefix, O_PATH, 0, in_root);
		}
		if (parent != root)
			sys1(__NR_close, parent);
		parent = fd;
		if (fd < 0)
			break;
	}
	return fd;
}

/* O_PATH descriptor of `path` below `root`, made where it is missing.  Every prefix is resolved by openat2 inside
 * root, so a symlink of an image leads nowhere else; what is new is made by its parent's descriptor.  The target of a
 * link to nothing is made too: /etc/resolv.conf is often one into /run. */
static long op_make(int root, const char *path, uint64_t mode, int file, uint64_t resolve)
{
	char way[PATH_MAX];
	long fd = -EEXIST;
	size_t i = 0;

	for (; path[i] && i < PATH_MAX - 1; i++)
		way[i] = path[i];
	way[i] = 0;
	if (path[i])
		return -ENAMETOOLONG;
	for (int links = 0; fd == -EEXIST && links < LINKS_AT_MOST; links++)
		fd = make_along(root, way, mode, file, resolve);
	return fd == -EEXIST ? -ELOOP : fd;
}
