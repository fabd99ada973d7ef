/* platform.h for Windows. */
#if defined(_WIN32)

#include "platform.h"

#include <process.h>
#include <string.h>

uint64_t rk_now_ns(void) {
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    uint64_t t = (uint64_t)ticks.QuadPart, f = (uint64_t)frequency.QuadPart;
    return t / f * 1000000000u + t % f * 1000000000u / f; /* in two parts: the product would overflow */
}

void rk_lock(rk_mutex *m) { AcquireSRWLockExclusive(m); }
void rk_unlock(rk_mutex *m) { ReleaseSRWLockExclusive(m); }

int rk_cond_init(rk_cond *c) {
    InitializeConditionVariable(c);
    return 0;
}

void rk_wait_until(rk_cond *c, rk_mutex *m, uint64_t deadline_ns) {
    DWORD milliseconds = INFINITE;
    if (deadline_ns != RK_FOREVER) {
        uint64_t now = rk_now_ns(), left;
        if (deadline_ns <= now) return;
        left = (deadline_ns - now + 999999u) / 1000000u;
        milliseconds = left > 0x7fffffffu ? 0x7fffffffu : (DWORD)left;
    }
    SleepConditionVariableSRW(c, m, milliseconds, 0);
}

void rk_wake_all(rk_cond *c) { WakeAllConditionVariable(c); }

static unsigned __stdcall run_body(void *body) {
    ((void (*)(void))body)();
    return 0;
}

int rk_thread_start(rk_thread *t, void (*body)(void)) {
    *t = (HANDLE)_beginthreadex(NULL, 0, run_body, (void *)body, 0, NULL);
    return *t == NULL;
}

void rk_thread_join(rk_thread t) {
    WaitForSingleObject(t, INFINITE);
    CloseHandle(t);
}

rk_socket rk_connect(const char *host, const char *port) {
    struct addrinfo wanted, *found = NULL;
    WSADATA data;
    rk_socket s;
    memset(&wanted, 0, sizeof wanted);
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    if (WSAStartup(MAKEWORD(2, 2), &data)) return RK_NO_SOCKET;
    if (getaddrinfo(host, port, &wanted, &found)) {
        WSACleanup();
        return RK_NO_SOCKET;
    }
    s = socket(found->ai_family, SOCK_STREAM, IPPROTO_TCP);
    if (s != RK_NO_SOCKET) {
        BOOL yes = TRUE;
        DWORD patience_ms = 500;
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, (const char *)&yes, sizeof yes);
        setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, (const char *)&patience_ms, sizeof patience_ms);
        if (connect(s, found->ai_addr, (int)found->ai_addrlen)) {
            closesocket(s);
            s = RK_NO_SOCKET;
        }
    }
    freeaddrinfo(found);
    if (s == RK_NO_SOCKET) WSACleanup();
    return s;
}

static int clipped(size_t size) { return size > 0x40000000u ? 0x40000000 : (int)size; }

int rk_send(rk_socket s, const void *data, size_t size) {
    const char *p = data;
    while (size) {
        int n = send(s, p, clipped(size), 0);
        if (n <= 0) return -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int rk_receive(rk_socket s, void *data, size_t size) {
    char *p = data;
    while (size) {
        int n = recv(s, p, clipped(size), 0);
        if (n <= 0) return -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int rk_receive_timeout(rk_socket s, unsigned milliseconds) {
    DWORD t = milliseconds;
    return setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, (const char *)&t, sizeof t);
}

void rk_shutdown(rk_socket s) {
    shutdown(s, SD_BOTH);
    CancelIoEx((HANDLE)s, NULL); /* shutdown alone does not end a recv that waits already */
}

void rk_close(rk_socket s) {
    closesocket(s);
    WSACleanup(); /* counted: the counterpart of rk_connect's WSAStartup */
}

int rk_map_open(rk_map *map, const char *path, uint64_t size) {
    WCHAR wide[1024];
    LARGE_INTEGER there;
    if (!MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, 1024)) return -1;
    map->mapping = NULL;
    map->file = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                            FILE_ATTRIBUTE_NORMAL, NULL);
    if (map->file == INVALID_HANDLE_VALUE) return -1;
    if (GetFileSizeEx(map->file, &there) && (uint64_t)there.QuadPart >= size)
        map->mapping = CreateFileMappingW(map->file, NULL, PAGE_READONLY, 0, 0, NULL);
    map->data = map->mapping ? MapViewOfFile(map->mapping, FILE_MAP_READ, 0, 0, (SIZE_T)size) : NULL;
    if (!map->data) {
        if (map->mapping) CloseHandle(map->mapping);
        CloseHandle(map->file);
        return -1;
    }
    map->size = size;
    return 0;
}

void rk_map_close(rk_map *map) {
    if (map->data) {
        UnmapViewOfFile(map->data);
        CloseHandle(map->mapping);
        CloseHandle(map->file);
    }
    map->data = NULL;
    map->size = 0;
}

void rk_own_path(char *path, size_t size) {
    HMODULE self;
    WCHAR wide[1024];
    path[0] = 0;
    if (GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                           (LPCWSTR)(void *)&rk_own_path, &self) &&
        GetModuleFileNameW(self, wide, 1024))
        WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, (int)size, NULL, NULL);
}

int rk_environment(const char *name, char *value, size_t size) {
    /* Not getenv: the C library here may have its own copy, older than what Python has set since. */
    DWORD n = GetEnvironmentVariableA(name, value, (DWORD)size);
    if (n && n < size) return 1;
    value[0] = 0;
    return 0;
}

#else
typedef int rk_not_windows; /* a translation unit must not be empty */
#endif
