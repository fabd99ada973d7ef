/* platform.h for Linux and macOS. */
#if !defined(_WIN32)

#define _GNU_SOURCE /* dladdr */
#include "platform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#if !defined(MSG_NOSIGNAL)
#define MSG_NOSIGNAL 0 /* macOS: SO_NOSIGPIPE instead */
#endif

uint64_t rk_now_ns(void) {
#if defined(__APPLE__)
    return clock_gettime_nsec_np(CLOCK_UPTIME_RAW); /* what Python's monotonic clock reads there */
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

void rk_lock(rk_mutex *m) { pthread_mutex_lock(m); }
void rk_unlock(rk_mutex *m) { pthread_mutex_unlock(m); }

int rk_cond_init(rk_cond *c) {
#if defined(__APPLE__)
    return pthread_cond_init(c, NULL);
#else
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes)) return -1;
    int failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) || pthread_cond_init(c, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed;
#endif
}

void rk_wait_until(rk_cond *c, rk_mutex *m, uint64_t deadline_ns) {
    if (deadline_ns == RK_FOREVER) {
        pthread_cond_wait(c, m);
        return;
    }
#if defined(__APPLE__)
    uint64_t now = rk_now_ns();
    if (deadline_ns <= now) return;
    uint64_t left = deadline_ns - now;
    struct timespec t = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    pthread_cond_timedwait_relative_np(c, m, &t);
#else
    struct timespec t = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
    pthread_cond_timedwait(c, m, &t);
#endif
}

void rk_wake_all(rk_cond *c) { pthread_cond_broadcast(c); }

static void *run_body(void *body) {
    void (*function)(void);
    memcpy(&function, &body, sizeof function);
    function();
    return NULL;
}

int rk_thread_start(rk_thread *t, void (*body)(void)) {
    /* Signals belong to the application's own threads: none is handled in ours. */
    void *argument;
    sigset_t all, before;
    memcpy(&argument, &body, sizeof argument);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(t, NULL, run_body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

void rk_thread_join(rk_thread t) { pthread_join(t, NULL); }

rk_socket rk_connect(const char *host, const char *port) {
    struct addrinfo wanted, *found = NULL;
    memset(&wanted, 0, sizeof wanted);
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    if (getaddrinfo(host, port, &wanted, &found)) return RK_NO_SOCKET;
    int s = socket(found->ai_family, SOCK_STREAM, 0);
    if (s >= 0) {
        int yes = 1;
        struct timeval patience = {0, 500000};
        fcntl(s, F_SETFD, FD_CLOEXEC);
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
#if defined(SO_NOSIGPIPE)
        setsockopt(s, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes);
#endif
        if (connect(s, found->ai_addr, found->ai_addrlen)) {
            close(s);
            s = RK_NO_SOCKET;
        }
    }
    freeaddrinfo(found);
    return s;
}

int rk_send(rk_socket s, const void *data, size_t size) {
    const char *p = data;
    while (size) {
        ssize_t n = send(s, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int rk_receive(rk_socket s, void *data, size_t size) {
    char *p = data;
    while (size) {
        ssize_t n = recv(s, p, size, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int rk_receive_timeout(rk_socket s, unsigned milliseconds) {
    struct timeval t;
    t.tv_sec = milliseconds / 1000;
    t.tv_usec = (suseconds_t)(milliseconds % 1000) * 1000;
    return setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
}

void rk_shutdown(rk_socket s) { shutdown(s, SHUT_RDWR); }
void rk_close(rk_socket s) { close(s); }

int rk_map_open(rk_map *map, const char *path, uint64_t size) {
    struct stat status;
    void *data = MAP_FAILED;
    int f = open(path, O_RDONLY | O_CLOEXEC);
    if (f < 0) return -1;
    /* Pages beyond the end of a file kill the process that touches them. */
    if (!fstat(f, &status) && (uint64_t)status.st_size >= size) data = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, f, 0);
    close(f);
    if (data == MAP_FAILED) return -1;
    map->data = data;
    map->size = size;
    return 0;
}

void rk_map_close(rk_map *map) {
    if (map->data) munmap(map->data, (size_t)map->size);
    map->data = NULL;
    map->size = 0;
}

void rk_own_path(char *path, size_t size) {
    static const char here = 0;
    Dl_info info;
    path[0] = 0;
    if (dladdr(&here, &info) && info.dli_fname) snprintf(path, size, "%s", info.dli_fname);
}

int rk_environment(const char *name, char *value, size_t size) {
    const char *there = getenv(name);
    value[0] = 0;
    if (!there || !there[0] || strlen(there) >= size) return 0;
    strcpy(value, there);
    return 1;
}

#else
typedef int rk_not_posix; /* a translation unit must not be empty */
#endif
