/* A fake OpenAI-compatible upstream: one thread, epoll, almost no CPU of its own.
 *
 *   upstream [--port P] [--rate TOKENS_PER_S] [--tokens N] [--size BYTES] [--delay MS] [--tick US]
 *
 * It prints the port it listens on and serves until it is killed:
 *   POST /v1/chat/completions   with "stream": true an SSE stream of chat.completion.chunk objects,
 *                               otherwise one chat.completion object
 *   GET  /v1/models             one model, "bench"
 *   GET  /stats                 counters of this process, as JSON
 * A string value that begins with bench-, of the model or, preferred, of a message, overrides the defaults
 * for its request: bench-r50-n500-s20-d100 is 50 tokens a second, 500 tokens (0: until the client goes),
 * 20 bytes of text a token, the first one after 100 ms.
 *
 * Each token's text is " t" and the microseconds of CLOCK_MONOTONIC at which it was sent, so that whoever
 * sees it later, however it was wrapped meanwhile, knows its age. The first token comes at once; the
 * second after a random part of the interval, so that streams opened together do not tick together.
 * A client that does not read pauses its stream; a client that goes ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
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

#define MAX_REQUEST (1 << 20)
#define MAX_TEXT 4000
#define NOT_IN_HEAP (-1)

struct options {
    double rate;
    long tokens;
    int size;
    int delay_ms;
};

struct conn {
    int fd;
    int heap_at; /* index in the heap of due streams, or NOT_IN_HEAP */
    int64_t due;
    char *in; /* the request read so far */
    size_t in_len, in_cap;
    char *out; /* bytes the socket did not take yet */
    size_t out_len;
    char *head; /* what precedes the text in every chunk of this stream */
    size_t head_len;
    struct options opt;
    long sent;
    bool streaming, chunked, keep_alive, usage, close_after_out;
};

static struct options defaults = {50, 0, 0, 0};
static int64_t tick_ns = 250000;
static int epoll_fd, listen_fd;
static struct conn **heap;
static int heap_len, heap_cap;
static char padding[MAX_TEXT + 1];
static struct { long accepted, open, requests, streams, tokens, finished, aborted, paused; } stats;

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* ---- streams by due time ---- */

static void heap_put(int at, struct conn *c) {
    heap[at] = c;
    c->heap_at = at;
}

static void heap_up(int at) {
    struct conn *c = heap[at];
    while (at > 0 && heap[(at - 1) / 2]->due > c->due) {
        heap_put(at, heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(at, c);
}

static void heap_down(int at) {
    struct conn *c = heap[at];
    for (int kid; (kid = 2 * at + 1) < heap_len; at = kid) {
        if (kid + 1 < heap_len && heap[kid + 1]->due < heap[kid]->due) kid++;
        if (heap[kid]->due >= c->due) break;
        heap_put(at, heap[kid]);
    }
    heap_put(at, c);
}

static void heap_add(struct conn *c) {
    if (heap_len == heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 1024;
        heap = realloc(heap, heap_cap * sizeof *heap);
        if (!heap) die("realloc");
    }
    heap_put(heap_len++, c);
    heap_up(heap_len - 1);
}

static void heap_remove(struct conn *c) {
    int at = c->heap_at;
    if (at == NOT_IN_HEAP) return;
    c->heap_at = NOT_IN_HEAP;
    struct conn *last = heap[--heap_len];
    if (last == c) return;
    heap_put(at, last);
    heap_up(at);
    heap_down(last->heap_at);
}

/* ---- connections ---- */

static void conn_close(struct conn *c) {
    if (c->streaming) stats.aborted++;
    heap_remove(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c->head);
    free(c);
    stats.open--;
}

static void watch(struct conn *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* Sends, keeping what the socket does not take. False: the connection is gone and closed. */
static bool conn_send(struct conn *c, const char *data, size_t len) {
    ssize_t n = 0;
    if (!c->out_len) {
        n = send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) {
            conn_close(c);
            return false;
        }
        if (n < 0) n = 0;
        if ((size_t)n == len) return true;
        watch(c, EPOLLIN | EPOLLRDHUP | EPOLLOUT);
    }
    c->out = realloc(c->out, c->out_len + len - n);
    if (!c->out) die("realloc");
    memcpy(c->out + c->out_len, data + n, len - n);
    c->out_len += len - n;
    return true;
}

/* One SSE event, in its own HTTP chunk where the client speaks HTTP/1.1. */
static size_t frame(struct conn *c, char *to, const char *event, size_t len) {
    size_t at = c->chunked ? (size_t)sprintf(to, "%zx\r\n", len) : 0;
    memcpy(to + at, event, len);
    at += len;
    if (c->chunked) {
        memcpy(to + at, "\r\n", 2);
        at += 2;
    }
    return at;
}

static bool send_token(struct conn *c) {
    char event[MAX_TEXT + 1024], framed[MAX_TEXT + 1100];
    static const char tail[] = "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    memcpy(event, c->head, c->head_len);
    size_t at = c->head_len;
    int text = sprintf(event + at, " t%lld", (long long)(now_ns() / 1000));
    at += text;
    if (c->opt.size > text) {
        memcpy(event + at, padding, c->opt.size - text);
        at += c->opt.size - text;
    }
    memcpy(event + at, tail, sizeof tail - 1);
    at += sizeof tail - 1;
    stats.tokens++;
    c->sent++;
    return conn_send(c, framed, frame(c, framed, event, at));
}

/* finish_reason, usage if asked for, [DONE] and the end of the body, each its own HTTP chunk. */
static bool send_end(struct conn *c) {
    char event[1024], framed[4096];
    size_t at = 0;
    int meta = (int)(strstr(c->head, "\"choices\"") - c->head);
    int len = sprintf(event, "%.*s\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"
                      "\"finish_reason\":\"length\"}]}\n\n", meta, c->head);
    at += frame(c, framed + at, event, len);
    if (c->usage) {
        len = sprintf(event, "%.*s\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":%ld,"
                      "\"total_tokens\":%ld}}\n\n", meta, c->head, c->sent, c->sent + 9);
        at += frame(c, framed + at, event, len);
    }
    at += frame(c, framed + at, "data: [DONE]\n\n", 14);
    if (c->chunked) at += sprintf(framed + at, "0\r\n\r\n");
    c->streaming = false;
    stats.finished++;
    if (!conn_send(c, framed, at)) return false;
    if (c->keep_alive) return true;
    if (c->out_len) {
        c->close_after_out = true;
        return true;
    }
    conn_close(c);
    return false;
}

static bool take_request(struct conn *c);

/* Sends what is due and plans the next token. False: the connection is closed. */
static bool tick(struct conn *c, int64_t now) {
    heap_remove(c);
    if (c->out_len) { /* the client does not read: nothing is made until it does */
        stats.paused++;
    } else {
        if (!send_token(c)) return false;
        if (c->opt.tokens && c->sent >= c->opt.tokens) return send_end(c) && take_request(c);
    }
    int64_t interval = (int64_t)(NS_PER_S / c->opt.rate);
    c->due += c->sent == 1 ? (int64_t)(interval * drand48()) : interval;
    if (c->due < now - NS_PER_S) c->due = now;
    heap_add(c);
    return true;
}

/* ---- requests ---- */

/* Reads -r<rate> -n<tokens> -s<size> -d<delay> after bench, up to the end of the string. */
static void read_options(const char *p, struct options *o) {
    for (; *p == '-' && p[1]; p += strcspn(p + 1, "-\"") + 1) {
        double value = atof(p + 2);
        if (p[1] == 'r' && value > 0) o->rate = value;
        if (p[1] == 'n') o->tokens = (long)value;
        if (p[1] == 's') o->size = value > MAX_TEXT ? MAX_TEXT : (int)value;
        if (p[1] == 'd') o->delay_ms = (int)value;
    }
}

/* The model's options, then the last message's. */
static struct options options_of(const char *model, const char *body) {
    struct options o = defaults;
    if (!strncmp(model, "bench", 5)) read_options(model + 5, &o);
    const char *messages = strstr(body, "\"messages\"");
    for (const char *p = messages; p && (p = strstr(p, "\"bench-")); p++) read_options(p + 6, &o);
    return o;
}

/* The value that follows a key in flat JSON: past the colon and blanks, or NULL. */
static const char *json_value(const char *body, const char *key) {
    const char *p = strstr(body, key);
    if (!p) return NULL;
    p += strlen(key);
    while (*p == ' ' || *p == ':') p++;
    return p;
}

static bool reply(struct conn *c, const char *status, const char *body) {
    char text[4096];
    int len = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n%s\r\n%s", status, strlen(body),
                       c->keep_alive ? "" : "Connection: close\r\n", body);
    if (!conn_send(c, text, len)) return false;
    if (c->keep_alive) return true;
    if (!c->out_len) {
        conn_close(c);
        return false;
    }
    c->close_after_out = true;
    return true;
}

static bool start_stream(struct conn *c, const char *model) {
    char head[1024], answer[2048], event[1200];
    static long serial;
    free(c->head);
    c->head_len = snprintf(head, sizeof head,
        "data: {\"id\":\"chatcmpl-%012lx\",\"object\":\"chat.completion.chunk\",\"created\":%ld,"
        "\"model\":\"%s\",\"system_fingerprint\":\"fp_bench\",\"choices\":[{\"index\":0,\"delta\":"
        "{\"content\":\"", ++serial, (long)time(NULL), model);
    c->head = strdup(head);
    size_t at = sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                        "Cache-Control: no-cache\r\n%s%s\r\n",
                        c->chunked ? "Transfer-Encoding: chunked\r\n" : "",
                        c->keep_alive ? "" : "Connection: close\r\n");
    int meta = (int)(strstr(head, "\"choices\"") - head);
    int len = sprintf(event, "%.*s\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                      "\"logprobs\":null,\"finish_reason\":null}]}\n\n", meta, head);
    at += frame(c, answer + at, event, len);
    stats.streams++;
    c->streaming = true;
    c->sent = 0;
    if (!conn_send(c, answer, at)) return false;
    c->due = now_ns() + c->opt.delay_ms * 1000000LL;
    if (!c->opt.delay_ms) return tick(c, c->due);
    heap_add(c);
    return true;
}

static bool answer_chat(struct conn *c, const char *body) {
    char model[128] = "bench";
    const char *value = json_value(body, "\"model\"");
    if (value && *value == '"') snprintf(model, sizeof model, "%.*s", (int)strcspn(value + 1, "\"\\"), value + 1);
    c->opt = options_of(model, body);
    value = json_value(body, "\"include_usage\"");
    c->usage = value && !strncmp(value, "true", 4);
    value = json_value(body, "\"stream\"");
    if (value && !strncmp(value, "true", 4)) return start_stream(c, model);
    char text[1024];
    snprintf(text, sizeof text,
        "{\"id\":\"chatcmpl-0\",\"object\":\"chat.completion\",\"created\":%ld,\"model\":\"%s\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\" t%lld\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"total_tokens\":10}}",
        (long)time(NULL), model, (long long)(now_ns() / 1000));
    return reply(c, "200 OK", text);
}

static bool answer_stats(struct conn *c) {
    char text[512];
    snprintf(text, sizeof text, "{\"accepted\":%ld,\"open\":%ld,\"requests\":%ld,\"streams\":%ld,\"tokens\":%ld,"
             "\"finished\":%ld,\"aborted\":%ld,\"paused\":%ld}", stats.accepted, stats.open, stats.requests,
             stats.streams, stats.tokens, stats.finished, stats.aborted, stats.paused);
    return reply(c, "200 OK", text);
}

static bool answer(struct conn *c, char *request, char *body) {
    stats.requests++;
    char *eol = strstr(request, "\r\n");
    bool http11 = eol - request > 8 && !strncmp(eol - 8, "HTTP/1.1", 8);
    char *connection = strcasestr(eol, "\r\nconnection:");
    bool close_asked = connection && connection < body && !strncasecmp(connection + 13 + strspn(connection + 13, " "), "close", 5);
    c->chunked = http11;
    c->keep_alive = http11 && !close_asked;
    if (!strncmp(request, "POST ", 5) && strstr(request, "/chat/completions")) return answer_chat(c, body);
    if (!strncmp(request, "GET /stats", 10)) return answer_stats(c);
    if (!strncmp(request, "GET ", 4) && strstr(request, "/models"))
        return reply(c, "200 OK", "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":0,\"owned_by\":\"bench\"}]}");
    return reply(c, "404 Not Found", "{\"error\":{\"message\":\"no such path\",\"type\":\"invalid_request_error\"}}");
}

/* Answers the request at the front of the buffer, if it is complete. False: the connection is closed. */
static bool take_request(struct conn *c) {
    if (c->streaming || !c->in_len) return true;
    c->in[c->in_len] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return true;
    char *field = strcasestr(c->in, "\r\ncontent-length:");
    size_t body_len = field && field < end ? strtoul(field + 17, NULL, 10) : 0;
    size_t total = (size_t)(end + 4 - c->in) + body_len;
    if (total > MAX_REQUEST) {
        conn_close(c);
        return false;
    }
    if (c->in_len < total) return true;
    char *request = c->in, *rest = NULL;
    size_t rest_len = c->in_len - total;
    if (rest_len) {
        rest = malloc(rest_len + 1);
        memcpy(rest, request + total, rest_len);
    }
    request[total] = 0;
    c->in = rest;
    c->in_len = rest_len;
    c->in_cap = rest_len;
    bool alive = answer(c, request, request + (total - body_len));
    free(request);
    return alive && (rest_len ? take_request(c) : true);
}

static void readable(struct conn *c) {
    char buffer[65536];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0 || c->in_len + n > MAX_REQUEST) {
        conn_close(c);
        return;
    }
    if (c->in_len + n > c->in_cap || !c->in) {
        c->in_cap = c->in_len + n;
        c->in = realloc(c->in, c->in_cap + 1);
        if (!c->in) die("realloc");
    }
    memcpy(c->in + c->in_len, buffer, n);
    c->in_len += n;
    take_request(c);
}

/* False: the connection is closed. */
static bool writable(struct conn *c) {
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return true;
    if (n < 0) {
        conn_close(c);
        return false;
    }
    c->out_len -= n;
    memmove(c->out, c->out + n, c->out_len);
    if (c->out_len) return true;
    watch(c, EPOLLIN | EPOLLRDHUP);
    if (c->close_after_out) {
        conn_close(c);
        return false;
    }
    return true;
}

static void accept_all(void) {
    for (int fd, one = 1; (fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->heap_at = NOT_IN_HEAP;
        struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
        stats.accepted++;
        stats.open++;
    }
}

static void listen_on(int port) {
    int one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listen_fd, (struct sockaddr *)&a, len) || listen(listen_fd, 4096)) die("listen");
    getsockname(listen_fd, (struct sockaddr *)&a, &len);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &e);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
}

static void handle(struct epoll_event *e) {
    struct conn *c = e->data.ptr;
    if (!c) {
        accept_all();
    } else if (!(e->events & EPOLLOUT) || writable(c)) {
        if (e->events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) {
            conn_close(c);
        } else if (e->events & EPOLLIN) {
            readable(c);
        }
    }
}

/* Wakes on a grid of tick_ns, so that 1000 streams cost a few thousand wake-ups a second and not one a token. */
static void serve(void) {
    struct epoll_event events[512];
    for (;;) {
        struct timespec wait, *timeout = NULL;
        if (heap_len) {
            int64_t wake = (heap[0]->due + tick_ns - 1) / tick_ns * tick_ns - now_ns();
            if (wake < 0) wake = 0;
            wait.tv_sec = wake / NS_PER_S;
            wait.tv_nsec = wake % NS_PER_S;
            timeout = &wait;
        }
        int n = epoll_pwait2(epoll_fd, events, 512, timeout, NULL);
        if (n < 0 && errno != EINTR) die("epoll_pwait2");
        for (int i = 0; i < n; i++) handle(&events[i]);
        int64_t now = now_ns();
        while (heap_len && heap[0]->due <= now) tick(heap[0], now);
    }
}

int main(int argc, char **argv) {
    int port = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port")) port = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--rate")) defaults.rate = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--tokens")) defaults.tokens = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--size")) defaults.size = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--delay")) defaults.delay_ms = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--tick")) tick_ns = atol(argv[i + 1]) * 1000;
        else {
            fprintf(stderr, "upstream: unknown option %s; see the head of upstream.c\n", argv[i]);
            return 2;
        }
    }
    if (defaults.rate <= 0 || tick_ns <= 0 || defaults.size > MAX_TEXT) {
        fprintf(stderr, "upstream: --rate and --tick must be over 0, --size at most %d\n", MAX_TEXT);
        return 2;
    }
    for (int i = 0; i < MAX_TEXT; i++) padding[i] = " lorem ipsum dolor"[i % 18];
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    listen_on(port);
    serve();
}
