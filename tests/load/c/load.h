// What the server and the client of the load tests share: the form of a request, the pattern that fills it, and
// lines of text between the test and its program.
#pragma once
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SERVER_CLOSES = 1 };

// Followed by `length` bytes of pattern(id, 0, …). The answer is as many bytes of pattern(id, 1, …).
struct request {
    uint32_t id, length, flags;
};

// Differs between connections, between directions, and from place to place: what is lost, doubled, out of order or
// delivered to another connection shows.
static inline uint8_t pattern(uint32_t id, uint32_t direction, uint32_t offset) {
    uint32_t seed = (id * 2 + direction) * 2654435761u;
    return (uint8_t)(seed >> (offset % 4 * 8)) ^ (uint8_t)(offset / 4 * 31) ^ (uint8_t)(offset >> 10);
}

static inline void fill(uint8_t *bytes, uint32_t count, uint32_t id, uint32_t direction, uint32_t offset) {
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = pattern(id, direction, offset + i);
}

static inline void check(const uint8_t *bytes, uint32_t count, uint32_t id, uint32_t direction, uint32_t offset) {
    for (uint32_t i = 0; i < count; i++)
        if (bytes[i] != pattern(id, direction, offset + i)) {
            fprintf(stderr, "connection %u: byte %u of direction %u is wrong\n", id, offset + i, direction);
            exit(1);
        }
}

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

// For results that cannot be negative when all is well.
#define MUST(call) ({ __typeof__(call) result_ = (call); if (result_ < 0) die(#call); result_; })

static inline struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                 .sin_port = htons((uint16_t)port) };
}
