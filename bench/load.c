/* A load generator for token streams: one thread, epoll, almost no CPU of its own.
 *
 *   load --url http://127.0.0.1:8000/api/chat [--body JSON] [--header 'K: V']... [--streams N]
 *        [--ramp CONNECTIONS_PER_S] [--pending N] [--ramp-limit S] [--settle S] [--seconds S]
 *        [--probes PER_S] [--probe-seconds S] [--probe-body JSON]
 *
 * 1. Ramp: opens N streams, at most --ramp a second and at most --pending without their first token.
 * 2. Settle, then the measuring window: events, bytes, and the age of each event (added latency);
 *    both end early when no stream is left.
 * 3. Probes: new streams on top of the others, opened at a fixed rate whatever happens and closed at
 *    their first token: time to first byte and to first token of a visitor who comes now.
 *
 * The age of an event comes from the marker " t<microseconds of CLOCK_MONOTONIC>" that the fake
 * upstream puts into each token's text; it is searched in the body's bytes (after the HTTP chunking
 * is undone), so any wire format will do, and a marker may be cut anywhere between two reads.
 *
 * Lines "phase ramp|measure|measured|end" mark the times at which a caller reads CPU and memory of the
 * server; the last line is the result as JSON, times in microseconds. A stream fails when it is refused,
 * has another status than 200, or ends before the load generator ends it. Streams (and probes) that never
 * had their first byte count into its percentiles with the time they have waited.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define MAX_HEAD 16384

/* ---- histogram: 64 steps per power of two, so a percentile is right within 1.6 % ---- */

#define STEPS 64
struct histogram { long count, bucket[40 * STEPS]; int64_t max; };

static void record(struct histogram *h, int64_t us) {
    if (us < 0) us = 0;
    int shift = us < STEPS ? 0 : 63 - __builtin_clzll(us) - 5;
    long at = shift * (STEPS / 2) + (us >> shift);
    h->bucket[at]++;
    h->count++;
    if (us > h->max) h->max = us;
}

static int64_t percentile(const struct histogram *h, double p) {
    long wanted = (long)(h->count * p / 100), seen = 0;
    for (long at = 0; at < 40 * STEPS; at++) {
        seen += h->bucket[at];
        if (seen > wanted) {
            long shift = at < STEPS ? 0 : at / (STEPS / 2) - 1;
            int64_t low = (at - shift * (STEPS / 2)) << shift, high = low + (1LL << shift) - 1;
            return high < h->max ? high : h->max;
        }
    }
    return h->max;
}

static void print_histogram(const char *name, const struct histogram *h) {
    printf("\"%s\": {\"count\": %ld, \"p50\": %lld, \"p90\": %lld, \"p99\": %lld, \"p999\": %lld, \"max\": %lld}",
           name, h->count, (long long)percentile(h, 50), (long long)percentile(h, 90), (long long)percentile(h, 99),
           (long long)percentile(h, 99.9), (long long)h->max);
}

/* ---- streams ---- */

enum state { CONNECTING, HEAD, BODY, OVER };
enum chunk_state { SIZE, SIZE_END, DATA, DATA_END, TRAILER };
enum marker_state { NOTHING, SPACE, LETTER, DIGITS };

struct stream {
    int fd;
    enum state state;
    enum chunk_state chunk;
    enum marker_state marker;
    bool chunked, sized, probe, counted, seen_byte, seen_token;
    int64_t opened, left; /* left: bytes of this HTTP chunk, or of a body with Content-Length */
    int64_t stamp;
    char *head;
    size_t head_len;
};

/* waiting: for the first token; live: had it and go on. */
struct group { long opened, waiting, live, failed, ended, tokens; struct histogram ttfb, ttft; };

static struct group streams_group, probes_group;
static struct stream **all; /* every stream ever opened: they live until the end */
static long all_len, all_cap;
static struct histogram ages;
static long events, bytes, refused_status;
static char first_failure[400];
static bool measuring;
static int epoll_fd;
static struct sockaddr_in address;
static char host[64], path[512], headers[4096];
static int64_t received_at; /* time of the read whose bytes are looked at */

static struct group *group_of(struct stream *s) {
    return s->probe ? &probes_group : &streams_group;
}

static void stream_over(struct stream *s) {
    if (s->state == OVER) return;
    s->state = OVER;
    if (s->seen_token) group_of(s)->live--;
    else group_of(s)->waiting--;
    close(s->fd);
    free(s->head);
    s->head = NULL;
}

static void stream_failed(struct stream *s, const char *why) {
    if (s->state == OVER) return;
    group_of(s)->failed++;
    if (!first_failure[0]) {
        snprintf(first_failure, sizeof first_failure, "%s", why);
        for (char *p = first_failure; *p; p++)
            if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ') *p = '\'';
    }
    stream_over(s);
}

/* The body is complete although the upstream would have gone on, or its n tokens are told. */
static void stream_ended(struct stream *s) {
    group_of(s)->ended++;
    stream_over(s);
}

static void token(struct stream *s) {
    group_of(s)->tokens++;
    if (!s->seen_token) {
        s->seen_token = true;
        record(&group_of(s)->ttft, (received_at - s->opened) / 1000);
        group_of(s)->live++;
        group_of(s)->waiting--;
    }
    if (measuring && !s->probe) {
        events++;
        record(&ages, received_at / 1000 - s->stamp);
    }
}

/* Finds the markers in a piece of the body; what is cut off goes on with the next piece. */
static void scan(struct stream *s, const char *p, const char *end) {
    while (p < end) {
        switch (s->marker) {
        case NOTHING:
            p = memchr(p, ' ', end - p);
            if (!p) return;
            p++;
            s->marker = SPACE;
            break;
        case SPACE:
            s->marker = *p == 't' ? LETTER : NOTHING;
            if (*p == 't') p++;
            break;
        case LETTER:
            s->stamp = 0;
            s->marker = *p >= '0' && *p <= '9' ? DIGITS : NOTHING;
            break;
        case DIGITS:
            for (; p < end && *p >= '0' && *p <= '9'; p++) s->stamp = s->stamp * 10 + (*p - '0');
            if (p == end) return;
            s->marker = NOTHING;
            token(s);
        }
    }
}

static void body_chunked(struct stream *s, const char *p, const char *end) {
    while (p < end) {
        switch (s->chunk) {
        case SIZE: {
            char c = *p++;
            int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
            if (digit >= 0) s->left = s->left * 16 + digit;
            else if (c == '\n') s->chunk = s->left ? DATA : TRAILER;
            else s->chunk = SIZE_END;
            break;
        }
        case SIZE_END:
            if (*p++ == '\n') s->chunk = s->left ? DATA : TRAILER;
            break;
        case DATA: {
            const char *stop = end - p < s->left ? end : p + s->left;
            scan(s, p, stop);
            s->left -= stop - p;
            p = stop;
            if (!s->left) s->chunk = DATA_END;
            break;
        }
        case DATA_END:
            if (*p++ == '\n') s->chunk = SIZE;
            break;
        case TRAILER:
            stream_ended(s);
            return;
        }
    }
}

static void body(struct stream *s, const char *p, const char *end) {
    if (s->chunked) {
        body_chunked(s, p, end);
        return;
    }
    scan(s, p, end);
    if (s->sized && (s->left -= end - p) <= 0) stream_ended(s);
}

static void head(struct stream *s, const char *data, size_t len) {
    if (!s->head) s->head = malloc(MAX_HEAD + 1);
    if (s->head_len + len > MAX_HEAD) len = MAX_HEAD - s->head_len;
    memcpy(s->head + s->head_len, data, len);
    s->head_len += len;
    s->head[s->head_len] = 0;
    char *end = strstr(s->head, "\r\n\r\n");
    if (!end) {
        if (s->head_len == MAX_HEAD) stream_failed(s, "endless response head");
        return;
    }
    if (strncmp(s->head, "HTTP/1.1 200", 12) && strncmp(s->head, "HTTP/1.0 200", 12)) {
        refused_status++;
        stream_failed(s, s->head);
        return;
    }
    char *field = strcasestr(s->head, "\r\ntransfer-encoding:");
    s->chunked = field && field < end;
    field = strcasestr(s->head, "\r\ncontent-length:");
    s->sized = field && field < end;
    s->left = s->sized ? atol(field + 17) : 0;
    s->state = BODY;
    char *start = s->head, *rest = end + 4, *stop = s->head + s->head_len;
    s->head = NULL;
    body(s, rest, stop);
    free(start);
}

static void readable(struct stream *s) {
    static char buffer[65536];
    ssize_t n = recv(s->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    received_at = now_ns();
    if (n < 0) {
        stream_failed(s, strerror(errno));
    } else if (n == 0) {
        bool whole = s->state == BODY && !s->chunked && !s->sized;
        if (whole) stream_ended(s);
        else stream_failed(s, "the connection was closed in the middle of the response");
    } else {
        if (!s->seen_byte) {
            s->seen_byte = true;
            record(&group_of(s)->ttfb, (received_at - s->opened) / 1000);
        }
        if (measuring && !s->probe) bytes += n;
        if (s->state == HEAD) head(s, buffer, n);
        else body(s, buffer, buffer + n);
        if (s->probe && s->seen_token) stream_over(s);
    }
}

static void connected(struct stream *s, const char *request_body) {
    char request[16384];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        stream_failed(s, strerror(error));
        return;
    }
    int len = snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
                       "Accept: text/event-stream\r\n%sContent-Length: %zu\r\n\r\n%s",
                       path, host, headers, strlen(request_body), request_body);
    if (send(s->fd, request, len, MSG_NOSIGNAL) != len) {
        stream_failed(s, "the request could not be sent");
        return;
    }
    s->state = HEAD;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &e);
}

static void open_stream(bool probe) {
    struct stream *s = calloc(1, sizeof *s);
    int one = 1;
    if (all_len == all_cap) {
        all_cap = all_cap ? all_cap * 2 : 1024;
        all = realloc(all, all_cap * sizeof *all);
    }
    all[all_len++] = s;
    s->probe = probe;
    s->opened = now_ns();
    group_of(s)->opened++;
    group_of(s)->waiting++;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        perror("socket");
        exit(1);
    }
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = s};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &e);
    if (connect(s->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        stream_failed(s, strerror(errno));
}

/* ---- phases ---- */

static const char *request_body = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}", *probe_body;

/* Serves the sockets until the time has come. */
static void run_until(int64_t until) {
    struct epoll_event ready[512];
    for (;;) {
        int64_t wait = until - now_ns();
        if (wait <= 0) return;
        struct timespec timeout = {wait / NS_PER_S, wait % NS_PER_S};
        int n = epoll_pwait2(epoll_fd, ready, 512, &timeout, NULL);
        if (n < 0 && errno != EINTR) {
            perror("epoll_pwait2");
            exit(1);
        }
        for (int i = 0; i < n; i++) {
            struct stream *s = ready[i].data.ptr;
            if (s->state == CONNECTING) connected(s, s->probe ? probe_body : request_body);
            else if (s->state != OVER) readable(s);
        }
    }
}

/* Ends early when every stream has ended. */
static void run_while_streaming(double seconds) {
    int64_t end = now_ns() + (int64_t)(seconds * NS_PER_S), step = NS_PER_S / 100;
    while (now_ns() < end && (streams_group.live || streams_group.waiting)) {
        int64_t next = now_ns() + step;
        run_until(next < end ? next : end);
    }
}

static void phase(const char *name) {
    printf("phase %s\n", name);
    fflush(stdout);
}

/* Opens the streams no faster than the server takes them; true seconds it took. */
static double ramp(long wanted, double per_s, long pending, double limit_s) {
    int64_t start = now_ns(), step = (int64_t)(NS_PER_S / per_s), next = start;
    struct group *g = &streams_group;
    while ((g->opened < wanted || g->waiting) && now_ns() < start + (int64_t)(limit_s * NS_PER_S)) {
        if (g->opened < wanted && g->waiting < pending) {
            open_stream(false);
            next += step;
            if (next < now_ns()) next = now_ns();
            run_until(next);
        } else {
            run_until(now_ns() + 1000000);
        }
    }
    return (now_ns() - start) / 1e9;
}

static void probe(double per_s, double seconds) {
    int64_t next = now_ns(), end = next + (int64_t)(seconds * NS_PER_S);
    while (per_s > 0 && next < end) {
        open_stream(true);
        next += (int64_t)(NS_PER_S / per_s);
        run_until(next);
    }
    if (per_s > 0) run_until(now_ns() + NS_PER_S / 2); /* the last ones, too, may take a while */
}

/* Those that still wait count with the time they have waited. */
static void count_waiting(void) {
    int64_t now = now_ns();
    for (long i = 0; i < all_len; i++) {
        if (all[i]->state == OVER) continue;
        if (!all[i]->seen_byte) record(&group_of(all[i])->ttfb, (now - all[i]->opened) / 1000);
        if (!all[i]->seen_token) record(&group_of(all[i])->ttft, (now - all[i]->opened) / 1000);
    }
}

static void print_group(const char *name, const struct group *g) {
    printf("\"%s\": {\"opened\": %ld, \"waiting\": %ld, \"failed\": %ld, \"ended\": %ld, \"tokens\": %ld, ",
           name, g->opened, g->waiting, g->failed, g->ended, g->tokens);
    print_histogram("ttfb", &g->ttfb);
    printf(", ");
    print_histogram("ttft", &g->ttft);
    printf("}");
}

static void parse_url(const char *url) {
    char ip[32];
    int port = 80;
    snprintf(path, sizeof path, "/");
    if (sscanf(url, "http://%31[0-9.]:%d%511s", ip, &port, path) < 2 || inet_pton(AF_INET, ip, &address.sin_addr) != 1) {
        fprintf(stderr, "load: --url must be like http://127.0.0.1:8000/path, not %s\n", url);
        exit(2);
    }
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    snprintf(host, sizeof host, "%s:%d", ip, port);
}

int main(int argc, char **argv) {
    double ramp_rate = 500, ramp_limit = 30, settle = 1, seconds = 5, probe_rate = 0, probe_seconds = 3;
    long wanted = 1, pending = 100;
    const char *url = "";
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--url")) url = value;
        else if (!strcmp(name, "--body")) request_body = value;
        else if (!strcmp(name, "--probe-body")) probe_body = value;
        else if (!strcmp(name, "--header")) snprintf(headers + strlen(headers), sizeof headers - strlen(headers), "%s\r\n", value);
        else if (!strcmp(name, "--streams")) wanted = atol(value);
        else if (!strcmp(name, "--ramp")) ramp_rate = atof(value);
        else if (!strcmp(name, "--pending")) pending = atol(value);
        else if (!strcmp(name, "--ramp-limit")) ramp_limit = atof(value);
        else if (!strcmp(name, "--settle")) settle = atof(value);
        else if (!strcmp(name, "--seconds")) seconds = atof(value);
        else if (!strcmp(name, "--probes")) probe_rate = atof(value);
        else if (!strcmp(name, "--probe-seconds")) probe_seconds = atof(value);
        else {
            fprintf(stderr, "load: unknown option %s; see the head of load.c\n", name);
            return 2;
        }
    }
    parse_url(url);
    if (!probe_body) probe_body = request_body;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);

    phase("ramp");
    double ramp_took = ramp(wanted, ramp_rate, pending, ramp_limit);
    run_while_streaming(settle);
    phase("measure");
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    int64_t start = now_ns();
    long up = streams_group.live;
    measuring = true;
    run_while_streaming(seconds);
    measuring = false;
    double took = (now_ns() - start) / 1e9;
    getrusage(RUSAGE_SELF, &after);
    phase("measured");
    probe(probe_rate, probe_seconds);
    phase("end");
    count_waiting();

    double cpu = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) + (after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
                 (after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
    printf("{\"wanted\": %ld, \"ramp_seconds\": %.2f, \"refused_status\": %ld, \"first_failure\": \"%s\", ", wanted, ramp_took, refused_status, first_failure);
    print_group("streams", &streams_group);
    printf(", ");
    print_group("probes", &probes_group);
    printf(", \"window\": {\"seconds\": %.3f, \"streams\": %ld, \"events\": %ld, \"bytes\": %ld, \"load_cpu_seconds\": %.3f, ", took, up, events, bytes, cpu);
    print_histogram("age", &ages);
    printf("}}\n");
    return 0;
}
