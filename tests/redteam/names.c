/* The machine's resolver, as name servers of an attacker's answer it. Preloaded into the program.
 *
 * The file that REDTEAM_NAMES names has a line for each name: `NAME ANSWER ANSWER ...`, given in turn, the last one for
 * ever. An answer is one or more addresses with commas between them. Other names are resolved as always. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned asked[256];

static int next_answer(const char *name, char *answer, size_t size) {
    const char *path = getenv("REDTEAM_NAMES");
    FILE *names = path ? fopen(path, "r") : NULL;
    char line[1024];
    int found = 0;
    for (unsigned number = 0; names && !found && number < 256 && fgets(line, sizeof line, names); number++) {
        char *rest = NULL, *word = strtok_r(line, " \n", &rest);
        if (!word || strcmp(word, name) != 0)
            continue;
        pthread_mutex_lock(&lock);
        unsigned turn = asked[number]++;
        pthread_mutex_unlock(&lock);
        for (unsigned at = 0; at <= turn && (word = strtok_r(NULL, " \n", &rest)); at++, found = 1)
            snprintf(answer, size, "%s", word);
    }
    if (names)
        fclose(names);
    return found;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    resolver *real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    char answer[1024];
    if (!name || !next_answer(name, answer, sizeof answer))
        return real(name, service, hints, found);
    struct addrinfo numeric = {0}, *head = NULL, **tail = &head;
    if (hints)
        numeric = *hints;
    numeric.ai_flags = AI_NUMERICHOST;
    char *rest = NULL;
    for (char *address = strtok_r(answer, ",", &rest); address; address = strtok_r(NULL, ",", &rest)) {
        int failed = real(address, service, &numeric, tail);
        if (failed)
            return failed;
        while (*tail)
            tail = &(*tail)->ai_next;
    }
    *found = head;
    return 0;
}
