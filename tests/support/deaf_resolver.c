/* Stands before the C library's getaddrinfo: the name of the test's broker is never resolved, as with a name server
   that takes the question and does not answer. Built and preloaded by tests/dead_resolver_does_not_stop_polling.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    static const char said[] = "the resolver is asked and stays silent\n";
    if (node != NULL && strcmp(node, "broker.invalid") == 0) {
        if (write(STDERR_FILENO, said, sizeof said - 1) < 0) return EAI_SYSTEM;
        for (;;) pause();
    }
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    return next(node, service, hints, result);
}
