/* The raw system calls that a lock costs at least: the yardstick of lock.rs.
 *
 *   lock take PATH ROUNDS   open, fstat, flock, stat, one small write, close
 *   lock sweep DIRECTORY    for each file: open, fstat, flock, stat, unlink, close
 *   lock wait PATH          for each line of input: open, flock, the time since the epoch, close
 *   lock crowd NUMBER       so many processes that do nothing; says when they are there, and ends them with its input
 *
 * Prints the nanoseconds that the loop took, or that time. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int take(const char *path)
{
	struct stat opened, named;
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		fail("open");
	if (fstat(fd, &opened) || !S_ISREG(opened.st_mode) || opened.st_nlink != 1)
		fail("fstat");
	if (flock(fd, LOCK_EX | LOCK_NB))
		fail("flock");
	if (lstat(path, &named) || named.st_dev != opened.st_dev || named.st_ino != opened.st_ino)
		fail("lstat");
	return fd;
}

int main(int argc, char **argv)
{
	char record[512], path[4096];
	long long begun;

	memset(record, ' ', sizeof record);
	if (argc == 4 && !strcmp(argv[1], "take")) {
		long rounds = atol(argv[3]);
		begun = now(CLOCK_MONOTONIC);
		while (rounds-- > 0) {
			int fd = take(argv[2]);
			if (pwrite(fd, record, sizeof record, 0) != sizeof record)
				fail("pwrite");
			close(fd);
		}
	} else if (argc == 3 && !strcmp(argv[1], "sweep")) {
		struct dirent *entry;
		begun = now(CLOCK_MONOTONIC);
		DIR *directory = opendir(argv[2]);
		if (!directory)
			fail("opendir");
		while ((entry = readdir(directory))) {
			if (strncmp(entry->d_name, "cc-ci-app-", 10))
				continue;
			snprintf(path, sizeof path, "%s/%s", argv[2], entry->d_name);
			int fd = take(path);
			if (unlink(path))
				fail("unlink");
			close(fd);
		}
		closedir(directory);
	} else if (argc == 3 && !strcmp(argv[1], "wait")) {
		while (fgets(record, sizeof record, stdin)) {
			int fd = open(argv[2], O_RDWR | O_CLOEXEC);
			if (fd < 0 || flock(fd, LOCK_EX))
				fail("flock");
			printf("%lld\n", now(CLOCK_REALTIME));
			close(fd);
			fflush(stdout);
		}
		return 0;
	} else if (argc == 3 && !strcmp(argv[1], "crowd")) {
		for (long number = atol(argv[2]); number > 0; number--) {
			pid_t child = fork();
			if (child < 0)
				fail("fork");
			if (!child) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				for (;;)
					pause();
			}
		}
		puts("there");
		fflush(stdout);
		getchar();
		/* Their death signals end the others. */
		return 0;
	} else {
		return 2;
	}
	printf("%lld\n", now(CLOCK_MONOTONIC) - begun);
	return 0;
}
