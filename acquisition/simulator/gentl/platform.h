/* Threads, clock, sockets and shared memory of POSIX and Windows under one set of names. */
#ifndef RK_PLATFORM_H
#define RK_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
typedef SRWLOCK rk_mutex;
typedef CONDITION_VARIABLE rk_cond;
typedef HANDLE rk_thread;
typedef SOCKET rk_socket;
#define RK_NO_SOCKET INVALID_SOCKET
#define RK_MUTEX_INIT SRWLOCK_INIT
#else
#include <pthread.h>
typedef pthread_mutex_t rk_mutex;
typedef pthread_cond_t rk_cond;
typedef pthread_t rk_thread;
typedef int rk_socket;
#define RK_NO_SOCKET (-1)
#define RK_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#endif

#if defined(_MSC_VER)
#define RK_THREAD_LOCAL __declspec(thread)
#else
#define RK_THREAD_LOCAL __thread
#endif

#define RK_FOREVER UINT64_MAX

typedef struct {
    unsigned char *data; /* NULL: nothing mapped */
    uint64_t size;
#if defined(_WIN32)
    HANDLE file, mapping;
#endif
} rk_map;

uint64_t rk_now_ns(void); /* the clock of Python's time.monotonic_ns (perf_counter_ns on Windows) */

void rk_lock(rk_mutex *m);
void rk_unlock(rk_mutex *m);
int rk_cond_init(rk_cond *c); /* 0 on success; once for each condition, which then lasts as long as the process */
void rk_wait_until(rk_cond *c, rk_mutex *m, uint64_t deadline_ns); /* may wake early; RK_FOREVER: no deadline */
void rk_wake_all(rk_cond *c);

int rk_thread_start(rk_thread *t, void (*body)(void)); /* 0 on success */
void rk_thread_join(rk_thread t);

rk_socket rk_connect(const char *host, const char *port);
int rk_send(rk_socket s, const void *data, size_t size);  /* 0 on success; gives up after half a second */
int rk_receive(rk_socket s, void *data, size_t size);     /* 0 on success; blocks until all came or the peer left */
int rk_receive_timeout(rk_socket s, unsigned milliseconds); /* for rk_receive; 0: none. 0 on success */
void rk_shutdown(rk_socket s);                            /* wakes a thread in rk_receive */
void rk_close(rk_socket s);

int rk_map_open(rk_map *map, const char *path, uint64_t size); /* read-only; 0 on success */
void rk_map_close(rk_map *map);

void rk_own_path(char *path, size_t size); /* of this library; empty if the system does not say */
int rk_environment(const char *name, char *value, size_t size); /* 1 if it is set, not empty and fits, else value is empty */

#endif
