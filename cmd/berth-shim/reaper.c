// The first process of a container with --init: it starts the command, passes signals on to it, reaps whatever is handed to it,
// and ends as the command ends. It is this program under the name docker-init, which the engine mounts into such containers. It
// runs before Go does, since an idle one should cost a few pages of memory and no threads.

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

// Exit codes of a command that cannot be run, as a shell's.
enum { cannot_execute = 126, not_found = 127 };

static int is_init(const char *name)
{
	const char *slash = strrchr(name, '/');

	return strcmp(slash ? slash + 1 : name, "docker-init") == 0;
}

// become_command does not return. Signals are as the container's creator has left them, and the command has a process group
// of its own, in the foreground if there is a terminal: what is typed there goes to it alone.
static void become_command(char **argv, const sigset_t *mask)
{
	setpgid(0, 0);
	tcsetpgrp(STDIN_FILENO, getpgrp()); // SIGTTOU is blocked; without a terminal there is nothing to do
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	int reason = errno;
	dprintf(STDERR_FILENO, "docker-init: exec %s: %s\n", argv[0], strerror(reason));
	_exit(reason == ENOENT || reason == ENOTDIR ? not_found : cannot_execute);
}

static int exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// reap waits for every process that has ended. It returns the command's exit code if that was among them, else -1.
static int reap(pid_t command)
{
	int status, code = -1;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) != 0) {
		if (pid == command)
			code = exit_code(status);
		if (pid < 0 && errno != EINTR)
			break;
	}
	return code;
}

static void run(char **argv)
{
	sigset_t all, mask;
	pid_t command;

	sigfillset(&all);
	// A signal that tells of a fault of this very process must not wait.
	const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };
	for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++)
		sigdelset(&all, faults[i]);
	sigprocmask(SIG_SETMASK, &all, &mask); // what is blocked is not dropped, not even for the first process of a namespace
	if (getpid() != 1)
		prctl(PR_SET_CHILD_SUBREAPER, 1); // the container shares the pids of another

	command = fork();
	if (command < 0) {
		dprintf(STDERR_FILENO, "docker-init: fork: %s\n", strerror(errno));
		_exit(cannot_execute);
	}
	if (command == 0)
		become_command(argv, &mask);
	for (;;) {
		int sig = sigwaitinfo(&all, NULL);

		if (sig == SIGCHLD) {
			int code = reap(command);

			if (code >= 0)
				_exit(code);
		} else if (sig > 0) {
			kill(command, sig);
		}
	}
}

// Its priority is before that of libcontainer's constructor, which acts on variables that the container's environment may hold.
static void __attribute__((constructor(101))) docker_init(int argc, char **argv)
{
	if (argc < 1 || !is_init(argv[0]))
		return;
	argv++;
	if (*argv && strcmp(*argv, "--") == 0)
		argv++;
	if (!*argv) {
		dprintf(STDERR_FILENO, "usage: docker-init [--] COMMAND [ARG...]\n");
		_exit(cannot_execute);
	}
	run(argv);
}
