/* Writes docker's json-file log: one JSON object a line, escaped as Go's encoder does, rotated by size.
 *
 *   {"log":"hello\n","stream":"stdout","time":"2026-11-20T23:52:07.123456789Z"}
 *
 * Rules read off dockerd (daemon/logger: copier.go, jsonfilelog): a line longer than 16 KiB is logged in parts, of
 * which only the last ends in \n, all with the time of the first; trailing zeros of the time are dropped.  Unlike
 * dockerd a part never ends inside a UTF-8 character, so that no character turns into U+FFFD, and a file never
 * passes the maximum size (dockerd rotates one entry later).
 *
 * A log that can't be written (disk full) never holds up the container: entries are dropped whole and counted, and
 * the first entry that fits again is a note that says how many. */

#define JSONLOG_PART 16384
#define JSONLOG_ENTRY (6 * JSONLOG_PART + 128) /* all of it \u00XX, and the frame around it */
#define JSONLOG_PATH 4096

struct jsonlog {
	const char *path; /* 0: nothing is logged */
	uint64_t max_size;
	int max_files;
	int fd;
	uint64_t size; /* of the live file */
	uint64_t lost; /* entries dropped since the last note */
	int lost_errno;
	uint32_t used;
	char out[JSONLOG_ENTRY + 32768];
};

struct jsonlog_time {
	int64_t seconds;
	uint32_t nanoseconds;
};

static char *jsonlog_text(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	return to;
}

static char *jsonlog_number(char *to, uint64_t value, int digits)
{
	char reversed[20];
	int n = 0;

	do {
		reversed[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value || n < digits);
	while (n)
		*to++ = reversed[--n];
	return to;
}

/* RFC 3339 with nanoseconds, UTC.  Days to date: the Gregorian calendar in eras of 400 years that begin in March. */
static char *jsonlog_stamp(char *to, struct jsonlog_time t)
{
	uint64_t day = (uint64_t)t.seconds / 86400 + 719468, second = (uint64_t)t.seconds % 86400;
	uint64_t era = day / 146097, of_era = day % 146097;
	uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	uint64_t month = (5 * of_year + 2) / 153; /* 0 is March */

	to = jsonlog_number(to, year + era * 400 + (month >= 10), 4);
	*to++ = '-';
	to = jsonlog_number(to, month < 10 ? month + 3 : month - 9, 2);
	*to++ = '-';
	to = jsonlog_number(to, of_year - (153 * month + 2) / 5 + 1, 2);
	*to++ = 'T';
	to = jsonlog_number(to, second / 3600, 2);
	*to++ = ':';
	to = jsonlog_number(to, second / 60 % 60, 2);
	*to++ = ':';
	to = jsonlog_number(to, second % 60, 2);
	if (t.nanoseconds) {
		*to++ = '.';
		to = jsonlog_number(to, t.nanoseconds, 9);
		while (to[-1] == '0')
			to--;
	}
	*to++ = 'Z';
	return to;
}

/* Length of the UTF-8 character at p, 0 if it is none (overlong, surrogate, beyond U+10FFFF, stray byte), -1 if the
 * n bytes end inside what may become one.  Unicode 15, table 3-7. */
static int jsonlog_utf8(const unsigned char *p, uint32_t n)
{
	unsigned char low = 0x80, high = 0xbf;
	int length;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	for (int i = 1; i < length; i++) {
		if ((uint32_t)i >= n)
			return -1;
		if (p[i] < low || p[i] > high)
			return 0;
		low = 0x80, high = 0xbf;
	}
	return length;
}

/* How many of n bytes can be logged now without cutting a character in two. */
static uint32_t jsonlog_cut(const unsigned char *p, uint32_t n)
{
	for (uint32_t back = 1; back <= 3 && back < n; back++)
		if (p[n - back] >= 0xc0)
			return jsonlog_utf8(p + n - back, back) < 0 ? n - back : n;
	return n;
}

static char *jsonlog_escape(char *to, const unsigned char *p, uint32_t n)
{
	static const char hex[] = "0123456789abcdef";

	for (uint32_t i = 0; i < n;) {
		unsigned char c = p[i];
		int length;

		if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&') {
			*to++ = (char)c;
			i++;
			continue;
		}
		if (c < 0x80) {
			i++;
			if (c == '"' || c == '\\' || c == '\n' || c == '\r') {
				*to++ = '\\';
				*to++ = c == '\n' ? 'n' : c == '\r' ? 'r' : (char)c;
				continue;
			}
			to = jsonlog_text(to, "\\u00");
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
			continue;
		}
		length = jsonlog_utf8(p + i, n - i);
		if (length <= 0) {
			to = jsonlog_text(to, "\\ufffd");
			i++;
		} else if (c == 0xe2 && p[i + 1] == 0x80 && (p[i + 2] & 0xfe) == 0xa8) { /* U+2028, U+2029 */
			to = jsonlog_text(to, p[i + 2] & 1 ? "\\u2029" : "\\u2028");
			i += 3;
		} else {
			while (length--)
				*to++ = (char)p[i++];
		}
	}
	return to;
}

static char *jsonlog_entry(char *to, const char *stream, const unsigned char *p, uint32_t n, int whole,
			   struct jsonlog_time t)
{
	to = jsonlog_text(to, "{\"log\":\"");
	to = jsonlog_escape(to, p, n);
	to = jsonlog_text(to, whole ? "\\n\",\"stream\":\"" : "\",\"stream\":\"");
	to = jsonlog_text(to, stream);
	to = jsonlog_text(to, "\",\"time\":\"");
	to = jsonlog_stamp(to, t);
	return jsonlog_text(to, "\"}\n");
}

/* Opens the live file; a line that a killed monitor left half written is ended, so that the next one stands alone. */
static void jsonlog_open(struct jsonlog *l)
{
	char last = '\n';
	long size;

	l->fd = (int)sys4(__NR_openat, AT_FDCWD, l->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (l->fd < 0)
		return;
	size = sys3(__NR_lseek, l->fd, 0, 2 /* SEEK_END */);
	l->size = size > 0 ? (uint64_t)size : 0;
	if (l->size && sys4(__NR_pread64, l->fd, &last, 1, l->size - 1) == 1 && last != '\n'
	    && sys3(__NR_write, l->fd, "\n", 1) == 1)
		l->size++;
}

/* Writes n bytes of whole entries; what does not fit is taken back to the last whole one.  -> bytes kept */
static uint32_t jsonlog_write(struct jsonlog *l, const char *data, uint32_t n)
{
	long written = l->fd < 0 ? l->fd : sys3(__NR_write, l->fd, data, n);
	uint32_t kept = written > 0 ? (uint32_t)written : 0;

	if (kept < n) {
		l->lost_errno = written < 0 ? (int)-written : ENOSPC;
		while (kept && data[kept - 1] != '\n')
			kept--;
		if (written > 0)
			sys2(__NR_ftruncate, l->fd, l->size + kept);
	}
	l->size += kept;
	return kept;
}

static struct jsonlog_time jsonlog_now(void)
{
	struct __kernel_timespec now;

	sys2(__NR_clock_gettime, 0 /* CLOCK_REALTIME */, &now);
	return (struct jsonlog_time){ now.tv_sec, (uint32_t)now.tv_nsec };
}

/* Says in the log that entries are missing; true if they are accounted for now. */
static int jsonlog_note(struct jsonlog *l)
{
	char text[96], note[256], *end = jsonlog_text(text, "minicontainer: log entries lost here: ");

	end = jsonlog_number(end, l->lost, 1);
	end = jsonlog_text(end, ", errno ");
	end = jsonlog_number(end, (uint64_t)l->lost_errno, 1);
	end = jsonlog_entry(note, "stderr", (unsigned char *)text, (uint32_t)(end - text), 1, jsonlog_now());
	if (jsonlog_write(l, note, (uint32_t)(end - note)) == 0)
		return 0;
	l->lost = 0;
	return 1;
}

static void jsonlog_flush(struct jsonlog *l)
{
	uint32_t kept = 0;

	if (!l->used)
		return;
	if (l->fd < 0)
		jsonlog_open(l);
	if (!l->lost || jsonlog_note(l))
		kept = jsonlog_write(l, l->out, l->used);
	for (; kept < l->used; kept++)
		l->lost += l->out[kept] == '\n';
	l->used = 0;
}

static const char *jsonlog_name(char *to, const char *path, int index)
{
	char *end = jsonlog_text(to, path);

	*end++ = '.';
	*jsonlog_number(end, (uint64_t)index, 1) = 0;
	return to;
}

static long jsonlog_rename(const char *from, const char *to)
{
	return sys5(__NR_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* Drops path.N-1, moves path.N-2 to it, and so on; then path becomes path.1 and a new file takes its name.  The old
 * file gets its second name before it loses the first, so there is a file at `path` whenever we are killed; a reader
 * tells files by inode (engine/logs.py).  If anything fails the live file simply goes on. */
static void jsonlog_rotate(struct jsonlog *l)
{
	char from[JSONLOG_PATH + 16], to[JSONLOG_PATH + 16], fresh[JSONLOG_PATH + 16];
	long error = 0, fd;

	*jsonlog_text(jsonlog_text(fresh, l->path), ".new") = 0;
	fd = sys4(__NR_openat, AT_FDCWD, fresh, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0)
		return;
	if (l->max_files > 1)
		error = sys3(__NR_unlinkat, AT_FDCWD, jsonlog_name(to, l->path, l->max_files - 1), 0);
	for (int i = l->max_files - 1; i > 1 && (error >= 0 || error == -ENOENT); i--)
		error = jsonlog_rename(jsonlog_name(from, l->path, i - 1), jsonlog_name(to, l->path, i));
	if ((error >= 0 || error == -ENOENT) && l->max_files > 1)
		error = sys5(__NR_linkat, AT_FDCWD, l->path, AT_FDCWD, jsonlog_name(to, l->path, 1), 0);
	if (error >= 0 || error == -ENOENT)
		error = jsonlog_rename(fresh, l->path);
	if (error < 0) {
		sys1(__NR_close, fd);
		return;
	}
	sys1(__NR_close, l->fd);
	l->fd = (int)fd;
	l->size = 0;
}

/* One entry: at most JSONLOG_PART bytes; `whole` adds the newline that ends the line. */
static void jsonlog_add(struct jsonlog *l, const char *stream, const unsigned char *p, uint32_t n, int whole,
			struct jsonlog_time t)
{
	char *entry, *end;
	uint32_t length;

	if (sizeof l->out - l->used < JSONLOG_ENTRY)
		jsonlog_flush(l);
	entry = l->out + l->used;
	end = jsonlog_entry(entry, stream, p, n, whole, t);
	length = (uint32_t)(end - entry);
	if (l->max_size && l->size + l->used + length > l->max_size && l->size + l->used) {
		jsonlog_flush(l);
		if (l->size && l->fd >= 0)
			jsonlog_rotate(l);
		for (uint32_t i = 0; i < length; i++)
			l->out[i] = entry[i];
	}
	l->used += length;
}
