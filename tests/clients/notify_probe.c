/* notify_probe TEXT SECONDS: sends TEXT to $NOTIFY_SOCKET as sd_notify(3) does, then sleeps; 3 without the variable, 4 if it can't be sent. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	if (argc != 3)
		return 2;
	if (!path)
		return 3;
	strncpy(to.sun_path, path, sizeof to.sun_path - 1);
	if (sendto(fd, argv[1], strlen(argv[1]), 0, (struct sockaddr *)&to, sizeof to) < 0)
		return 4;
	sleep(atoi(argv[2]));
	return 0;
}
