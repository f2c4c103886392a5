/* The load generator: keeps a fixed number of connections busy, and checks every byte that returns.
 *
 *   load tcp|tls|udp HOST PORT [options]     messages; each connection has --window of them in flight
 *   load unix PATH [options]
 *   load handshake HOST PORT [options]       connect, full TLS 1.3 handshake, one byte, close; again
 *   load connect HOST PORT [options]         connect, one message, reset; again
 *   load idle tcp|tls HOST PORT [options]    open, echo one message each, hold until stdin ends
 *
 * One line of JSON on stdout says what happened in the measured interval. With --turns, one line says that
 * all are connected, and then every line on stdin asks for one more interval, on the same connections.
 *
 * Rules: one thread, epoll, no allocation of its own after the start; two system calls a message, or a
 * burst of datagrams, so that it keeps up with any server; it never sleeps, so that no server pays for
 * waking it, unless --sleep says that they share a processor; a byte that is wrong, or missing at the end, is an error; a datagram without an answer within
 * --patience is sent again and counted as lost.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "handshake.h"

#define SPREAD 4096 /* messages are cut from the pattern at this many different places */
#define BATCH 256
#define BURST 64
#define BULK 32768 /* from here on, bytes are sent without a copy */
#define SECOND 1000000000ull
#define WATCHED 64

typedef enum { TCP, UNIX, UDP, TLS, HANDSHAKE, CONNECT } Mode;

typedef struct {
    int fd; /* -1: closed */
    unsigned index;
    SSL *ssl;
    uint64_t sent, received; /* bytes */
    uint64_t since;          /* when the burst, or the handshake, was started */
    uint64_t burst, missing; /* datagrams: the number of the burst's first one, and those not yet back */
    uint64_t resent;         /* from which datagram on some were sent again, last */
    uint32_t events;         /* what epoll watches for */
    bool greeted;            /* the ClientHello, or the only message, has been sent */
} Connection;

static Mode mode;
static bool idle, in_turns, sleeping;
static unsigned connections = 64, window = 1;
static size_t size = 1024;
static double seconds = 3, warmup = 0.5, patience = 0.5;
static const char *ca_file, *cipher = "TLS_AES_128_GCM_SHA256", *group = "X25519";
static clockid_t watched[WATCHED]; /* the CPU clocks of the server's processes */
static unsigned watching;
static struct sockaddr_in source; /* of the first connection; with a family if it matters */
static unsigned sources = 1, next_source;

static union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
} address;
static socklen_t address_size;

static SSL_CTX *context;
static int poller;
static Connection *all;
static Handshake *handshakes;
static unsigned char *pattern;
static int pattern_file;
static unsigned char incoming[65536]; /* fits the second-level cache, with what it is compared to */
static bool stopping; /* nothing new is sent */
static uint64_t messages, bytes, errors, lost, waited; /* waited: ns in which there was nothing to do */

static uint64_t clock_of(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t now(void) { return clock_of(CLOCK_MONOTONIC); }

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void watch(Connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (c->events == events) return;
    if (epoll_ctl(poller, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
    c->events = events;
}

static void close_connection(Connection *c) {
    if (c->ssl) SSL_free(c->ssl);
    if (c->fd >= 0) close(c->fd);
    c->ssl = NULL;
    c->fd = -1;
    c->events = 0;
}

static void fail(Connection *c, const char *what) {
    /* The first few say all there is to say. */
    if (errors++ < 3) {
        unsigned long reason = ERR_peek_error();
        fprintf(stderr, "load: connection %u: %s (%s)\n", c->index, what,
                reason ? ERR_reason_error_string(reason) : errno ? strerror(errno) : "end of stream");
    }
    ERR_clear_error();
    close_connection(c);
}

/* Message n of a connection. Neighbours differ, so that nothing passes for what came before it. */
static const unsigned char *message(const Connection *c, uint64_t n) {
    return pattern + (c->index * 97 + n * 61) % SPREAD;
}

/* Both return how many bytes were moved, 0 for "not now", -1 for an end or an error. */

static ssize_t ssl_result(Connection *c, int result) {
    int error;
    if (result > 0) return result;
    error = SSL_get_error(c->ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* `data` lies in the pattern. */
static ssize_t transmit(Connection *c, const unsigned char *data, size_t length) {
    ssize_t n;
    if (c->ssl) return ssl_result(c, SSL_write(c->ssl, data, (int)length));
    if (length < BULK) {
        n = send(c->fd, data, length, MSG_NOSIGNAL);
    } else {
        /* No copy: that pays for the comparison, which the server does not have to make. */
        off_t offset = data - pattern;
        n = sendfile(c->fd, pattern_file, &offset, length);
    }
    return n >= 0 ? n : errno == EAGAIN ? 0 : -1;
}

static ssize_t take(Connection *c, void *data, size_t length) {
    ssize_t n;
    if (c->ssl) return ssl_result(c, SSL_read(c->ssl, data, (int)length));
    n = recv(c->fd, data, length, 0);
    if (n == 0) errno = 0;
    return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
}

/* Streams. */

static void send_stream(Connection *c) {
    while (!stopping && c->sent < (c->received / size + window) * size) {
        size_t at = c->sent % size;
        ssize_t n = transmit(c, message(c, c->sent / size) + at, size - at);
        if (n < 0) {
            fail(c, "sending");
            return;
        }
        if (n == 0) {
            watch(c, EPOLLIN | EPOLLOUT);
            return;
        }
        c->sent += (size_t)n;
    }
    watch(c, EPOLLIN);
}

/* Whether the n bytes in `incoming` are the ones that are due. */
static bool check_stream(Connection *c, size_t n) {
    size_t done = 0;
    if (c->received + n > c->sent) return false;
    bytes += n;
    while (done < n) {
        size_t at = c->received % size, part = size - at < n - done ? size - at : n - done;
        if (memcmp(incoming + done, message(c, c->received / size) + at, part) != 0) return false;
        done += part;
        c->received += part;
        if (at + part == size) messages++;
    }
    return true;
}

static void receive_stream(Connection *c) {
    for (;;) {
        ssize_t n = take(c, incoming, sizeof incoming);
        if (n < 0) {
            fail(c, "receiving");
            return;
        }
        if (n == 0) return;
        if (!check_stream(c, (size_t)n)) {
            errno = EBADMSG;
            fail(c, "the echo differs from what was sent");
            return;
        }
        /* The poller tells about more; but not about what OpenSSL has read ahead. */
        if (!c->ssl || !SSL_has_pending(c->ssl)) return;
    }
}

static void on_stream(Connection *c, uint32_t events) {
    if (events & ~EPOLLOUT) receive_stream(c);
    if (c->fd >= 0) send_stream(c);
}

/* Datagrams: a burst of --window on each socket; the next one when all of it has come back. */

/* One call, and one walk through the kernel's layers, for a whole burst: the kernel cuts it (UDP_SEGMENT). */
static void send_burst(Connection *c) {
    struct iovec parts[BURST];
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = window};
    for (unsigned i = 0; i < window; i++)
        parts[i] = (struct iovec){(void *)(uintptr_t)message(c, c->burst + i), size};
    c->since = now();
    c->missing = window < 64 ? (1ull << window) - 1 : UINT64_MAX;
    if (c->resent != UINT64_MAX && c->burst > c->resent + 4 * window) c->resent = UINT64_MAX;
    if (sendmsg(c->fd, &header, 0) < 0 && errno != EAGAIN) fail(c, "sending");
}

static void check_datagram(Connection *c, const unsigned char *data, size_t length) {
    /* Where some were sent again, both copies may be answered: one of them late, long after the other. */
    uint64_t first = c->resent < c->burst ? c->resent : c->burst;
    for (uint64_t n = c->burst + window; length == size && n-- > first;) {
        uint64_t bit = n >= c->burst ? 1ull << (n - c->burst) : 0;
        if (memcmp(data, message(c, n), size) != 0) continue;
        if (c->missing & bit) {
            c->missing &= ~bit;
            messages++;
            bytes += size;
            return;
        }
        if (c->resent <= n) return;
        break;
    }
    errno = EBADMSG;
    fail(c, "the echo differs from what was sent");
}

static void on_datagram(Connection *c) {
    static struct mmsghdr headers[BURST];
    static struct iovec parts[BURST];
    int got;
    for (unsigned i = 0; i < window; i++) {
        parts[i] = (struct iovec){incoming + i * 1024, window > 1 ? 1024 : sizeof incoming};
        headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    got = recvmmsg(c->fd, headers, window, MSG_DONTWAIT, NULL);
    if (got < 0) {
        if (errno != EAGAIN) fail(c, "receiving");
        return;
    }
    for (int i = 0; i < got && c->fd >= 0; i++) check_datagram(c, incoming + i * 1024, headers[i].msg_len);
    if (c->fd < 0 || c->missing) return;
    c->burst += window;
    if (!stopping) send_burst(c);
}

static void resend_datagrams(uint64_t time) {
    for (unsigned i = 0; i < connections; i++) {
        Connection *c = &all[i];
        if (c->fd < 0 || !c->missing || time < c->since) continue;
        if ((double)(time - c->since) <= patience * SECOND) continue;
        c->since = time;
        c->resent = c->burst;
        for (unsigned n = 0; n < window; n++) {
            if (!(c->missing >> n & 1)) continue;
            lost++;
            if (send(c->fd, message(c, c->burst + n), size, 0) < 0 && errno != EAGAIN) fail(c, "sending");
            if (c->fd < 0) break;
        }
    }
}

/* Connections that begin and end all the time: whether these are what is measured. */
static bool anew(void) { return mode == HANDSHAKE || mode == CONNECT; }

/* The ports of one address are soon used up. */
static void choose_source(int fd) {
    struct sockaddr_in from = source;
    int on = 1;
    from.sin_addr.s_addr = htonl(ntohl(source.sin_addr.s_addr) + next_source++ % sources);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0) die("--from: %s", strerror(errno));
}

static int new_socket(void) {
    int on = 1, fd = socket(address.any.sa_family, mode == UDP ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (fd < 0) die("socket: %s", strerror(errno));
    if (mode != UNIX && mode != UDP) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (mode == UDP && window > 1) {
        int segment = (int)size;
        if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0)
            die("UDP_SEGMENT: %s", strerror(errno));
    }
    if (source.sin_family) choose_source(fd);
    return fd;
}

/* Handshakes. */

static void start_handshake(Connection *c) {
    const unsigned char *hello;
    size_t length = handshake_start(&handshakes[c->index], (unsigned char)c->index, &hello);
    c->fd = new_socket();
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->since = now();
    if (connect(c->fd, &address.any, address_size) != 0 && errno != EINPROGRESS) {
        fail(c, "connecting");
        return;
    }
    c->greeted = send(c->fd, hello, length, MSG_NOSIGNAL) == (ssize_t)length;
    watch(c, c->greeted ? EPOLLIN : EPOLLOUT);
}

static void step_handshake(Connection *c) {
    Handshake *h = &handshakes[c->index];
    unsigned char answer[ANSWER];
    ssize_t n;
    int length;
    errno = 0;
    if (!c->greeted) {
        const unsigned char *hello;
        size_t size = handshake_start(h, (unsigned char)c->index, &hello);
        c->greeted = send(c->fd, hello, size, MSG_NOSIGNAL) == (ssize_t)size;
        if (c->greeted) watch(c, EPOLLIN);
        else fail(c, "connecting");
        return;
    }
    n = recv(c->fd, incoming, sizeof incoming, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n == 0 && h->step == DONE) {
        messages++;
        close_connection(c);
        return;
    }
    if (n <= 0) {
        fail(c, h->step == DONE ? "waiting for the end" : "handshake");
        return;
    }
    if (h->step == DONE) return; /* its close_notify */
    length = handshake_feed(h, incoming, (size_t)n, answer);
    if (length < 0) fail(c, h->problem);
    else if (length > 0 && send(c->fd, answer, (size_t)length, MSG_NOSIGNAL) != length) fail(c, "sending");
}

/* Connections with one message. */

static void greet(Connection *c) {
    c->greeted = send(c->fd, message(c, c->burst), size, MSG_NOSIGNAL) == (ssize_t)size;
    watch(c, c->greeted ? EPOLLIN : EPOLLOUT);
}

static void start_connecting(Connection *c) {
    c->fd = new_socket();
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->since = now();
    c->received = 0;
    c->burst++;
    if (connect(c->fd, &address.any, address_size) != 0 && errno != EINPROGRESS) fail(c, "connecting");
    else greet(c);
}

static void step_connecting(Connection *c) {
    ssize_t n;
    if (!c->greeted) {
        greet(c);
        if (!c->greeted) fail(c, "connecting");
        return;
    }
    n = recv(c->fd, incoming, sizeof incoming, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n == 0) errno = 0;
    if (n <= 0) {
        fail(c, "waiting for the echo");
        return;
    }
    if (c->received + (size_t)n > size || memcmp(incoming, message(c, c->burst) + c->received, (size_t)n) != 0) {
        errno = EBADMSG;
        fail(c, "the echo differs from what was sent");
        return;
    }
    c->received += (size_t)n;
    if (c->received == size) {
        /* A reset leaves nothing behind. An orderly end leaves a TIME_WAIT for a minute on this side, and there
           is room for a few seconds' worth of those (net.ipv4.tcp_max_tw_buckets). */
        struct linger none = {1, 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
        messages++;
        bytes += size;
        close_connection(c);
    }
}

/* Both. */

static void start_anew(Connection *c) {
    if (mode == HANDSHAKE) start_handshake(c);
    else start_connecting(c);
}

static void restart(uint64_t time) {
    for (unsigned i = 0; i < connections; i++) {
        Connection *c = &all[i];
        if (c->fd >= 0 && time > c->since && (double)(time - c->since) > 10 * patience * SECOND) {
            errno = ETIMEDOUT;
            fail(c, mode == HANDSHAKE ? "handshake" : "connection");
        }
        if (c->fd < 0 && !stopping) start_anew(c);
    }
}

static void on_new(Connection *c) {
    if (mode == HANDSHAKE) step_handshake(c);
    else step_connecting(c);
    /* After a failure the next look at the clock tries again: a server that refuses is not stormed. */
    if (c->fd < 0 && !stopping && errors == 0) start_anew(c);
}

/* Setting up. */

static void new_ssl(Connection *c) {
    c->ssl = SSL_new(context);
    if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1) die("out of memory");
    SSL_set_connect_state(c->ssl);
}

/* Connect and shake hands, one after the other, blocking: no backlog overflows. */
static void open_connection(Connection *c) {
    struct timeval limit = {.tv_sec = 10};
    c->fd = new_socket();
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(c->fd, &address.any, address_size) != 0) die("connecting: %s", strerror(errno));
    if (context) {
        new_ssl(c);
        if (SSL_do_handshake(c->ssl) != 1)
            die("connection %u: handshake: %s", c->index, ERR_reason_error_string(ERR_peek_error()));
    }
}

static void echo_once(Connection *c) {
    if (transmit(c, message(c, 0), size) != (ssize_t)size) die("connection %u: sending", c->index);
    c->sent = size;
    while (c->received < size) {
        ssize_t n = take(c, incoming, sizeof incoming);
        if (n <= 0 || !check_stream(c, (size_t)n)) die("connection %u: no echo, or a wrong one", c->index);
    }
}

static void run_idle(void) {
    char ignored[64];
    for (unsigned i = 0; i < connections; i++) {
        open_connection(&all[i]);
        echo_once(&all[i]);
    }
    printf("{\"open\": %u}\n", connections);
    fflush(stdout);
    while (read(STDIN_FILENO, ignored, sizeof ignored) > 0) continue;
    for (unsigned i = 0; i < connections; i++) {
        if (all[i].ssl) SSL_shutdown(all[i].ssl);
        close_connection(&all[i]);
    }
}

static void new_context(void) {
    context = SSL_CTX_new(TLS_client_method());
    if (!context) die("out of memory");
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    /* One suite and one group, so that every server does the same work. */
    if (SSL_CTX_set_ciphersuites(context, cipher) != 1) die("no such cipher suite: %s", cipher);
    if (SSL_CTX_set1_groups_list(context, group) != 1) die("no such group: %s", group);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context, 1); /* one recv a record, not one for its header and one for the rest */
    if (ca_file) {
        if (SSL_CTX_load_verify_locations(context, ca_file, NULL) != 1) die("cannot use %s", ca_file);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    }
}

/* Measuring. */

typedef struct {
    uint64_t time, load_cpu, server_cpu, messages, bytes, waited;
} Reading;

static Reading read_everything(void) {
    uint64_t server = 0;
    /* All threads of the server, those that have ended too; exact even while it runs. */
    for (unsigned i = 0; i < watching; i++) server += clock_of(watched[i]);
    return (Reading){
        .time = now(),
        .load_cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID),
        .server_cpu = server,
        .messages = messages,
        .bytes = bytes,
        .waited = waited,
    };
}

/* Whether everything that was sent has come back. */
static bool all_quiet(void) {
    for (unsigned i = 0; i < connections; i++)
        if (all[i].fd >= 0 && (anew() || all[i].missing || all[i].received != all[i].sent))
            return false;
    return true;
}

static void poll_until(uint64_t deadline) {
    struct epoll_event events[BATCH];
    uint64_t time = now(), tick = time;
    while (time < deadline) {
        uint64_t last = time, left = (deadline - time) / (SECOND / 1000) + 1;
        int n = epoll_wait(poller, events, BATCH, !sleeping ? 0 : left < 20 ? (int)left : 20);
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (c->fd < 0) continue;
            switch (mode) {
            case UDP: on_datagram(c); break;
            case HANDSHAKE:
            case CONNECT: on_new(c); break;
            default: on_stream(c, events[i].events);
            }
        }
        time = now();
        if (n == 0 && !sleeping) waited += time - last;
        if (time - tick > SECOND / 20) {
            tick = time;
            if (mode == UDP && !stopping) resend_datagrams(time);
            if (anew()) restart(time);
        }
        if (stopping && all_quiet()) return;
    }
}

/* Have messages, or handshakes, under way everywhere. */
static void begin(void) {
    stopping = false;
    for (unsigned i = 0; i < connections; i++) {
        if (anew()) start_anew(&all[i]);
        else if (all[i].fd < 0) continue;
        else if (mode == UDP) {
            if (all[i].missing) all[i].resent = all[i].burst; /* lost at the end of the turn before */
            send_burst(&all[i]);
        } else send_stream(&all[i]);
    }
}

/* Leave the server in peace, with all its bytes echoed. */
static void end(void) {
    stopping = true;
    poll_until(now() + 2 * SECOND);
    for (unsigned i = 0; i < connections; i++) {
        Connection *c = &all[i];
        if (c->fd < 0) continue;
        if (anew() || (mode != UDP && c->received != c->sent)) {
            errno = ETIMEDOUT;
            fail(c, anew() ? "never ended" : "bytes were sent and never came back");
        }
    }
}

static void measure(void) {
    Reading before, after;
    uint64_t errors_before = errors, lost_before = lost, cpu, waiting;
    begin();
    poll_until(now() + (uint64_t)(warmup * SECOND));
    before = read_everything();
    poll_until(before.time + (uint64_t)(seconds * SECOND));
    after = read_everything();
    end();
    cpu = after.load_cpu - before.load_cpu;
    waiting = after.waited - before.waited; /* more than that, if the processor was another's meanwhile */
    printf("{\"messages\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"errors\": %llu, \"lost\": %llu, "
           "\"load_cpu\": %.6f",
           (unsigned long long)(after.messages - before.messages),
           (unsigned long long)(after.bytes - before.bytes), (double)(after.time - before.time) / SECOND,
           (unsigned long long)(errors - errors_before), (unsigned long long)(lost - lost_before),
           (double)(cpu > waiting ? cpu - waiting : 0) / SECOND);
    if (watching) printf(", \"server_cpu\": %.6f", (double)(after.server_cpu - before.server_cpu) / SECOND);
    puts("}");
    fflush(stdout);
}

static void run(void) {
    char line[64];
    for (unsigned i = 0; i < connections && !anew(); i++) {
        open_connection(&all[i]);
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
        watch(&all[i], EPOLLIN);
    }
    if (in_turns) {
        puts("connected");
        fflush(stdout);
    } else measure();
    while (in_turns && fgets(line, sizeof line, stdin)) measure();
    for (unsigned i = 0; i < connections; i++) {
        if (all[i].fd >= 0 && all[i].ssl) SSL_shutdown(all[i].ssl);
        close_connection(&all[i]);
    }
}

/* The command line. */

static const char usage[] =
    "usage: load tcp|udp|tls|handshake|connect HOST PORT [options]\n"
    "       load unix PATH [options]\n"
    "       load idle tcp|tls HOST PORT [options]\n"
    "  --connections N  at a time (64)           --size BYTES      of a message (1024)\n"
    "  --window N       in flight on each (1)    --seconds S       measured (3)\n"
    "  --warmup S       before that (0.5)        --patience S      until a datagram is lost (0.5)\n"
    "  --watch PID      measure its CPU time; of several, the sum   --CAfile FILE   verify the certificate\n"
    "  --cipher SUITE   (TLS_AES_128_GCM_SHA256) --group GROUP     (X25519)\n"
    "  --turns          measure once for every line of standard input\n"
    "  --from ADDRESS   connect from it; with --sources N, also from the N - 1 addresses that follow it\n"
    "  --sleep          while there is nothing to do: the server is on the same processor\n";

static double number(const char *text, double least) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least)) die("%s: expected a number, %g or more", text, least);
    return value;
}

static void parse(int argc, char **argv) {
    static const char *const modes[] = {"tcp", "unix", "udp", "tls", "handshake", "connect"};
    static const struct option options[] = {
        {"connections", required_argument, NULL, 'c'}, {"size", required_argument, NULL, 's'},
        {"window", required_argument, NULL, 'w'},      {"seconds", required_argument, NULL, 't'},
        {"warmup", required_argument, NULL, 'u'},      {"patience", required_argument, NULL, 'p'},
        {"watch", required_argument, NULL, 'x'},       {"CAfile", required_argument, NULL, 'a'},
        {"cipher", required_argument, NULL, 'e'},      {"group", required_argument, NULL, 'g'},
        {"turns", no_argument, NULL, 'i'},             {"help", no_argument, NULL, 'h'},
        {"from", required_argument, NULL, 'f'},        {"sources", required_argument, NULL, 'n'},
        {"sleep", no_argument, NULL, 'z'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long_only(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c': connections = (unsigned)number(optarg, 1); break;
        case 's': size = (size_t)number(optarg, 1); break;
        case 'w': window = (unsigned)number(optarg, 1); break;
        case 't': seconds = number(optarg, 0.01); break;
        case 'u': warmup = number(optarg, 0); break;
        case 'p': patience = number(optarg, 0.01); break;
        case 'x':
            if (watching == WATCHED) die("--watch: %d processes at the most", WATCHED);
            if (clock_getcpuclockid((pid_t)number(optarg, 1), &watched[watching++]) != 0)
                die("no such process: %s", optarg);
            break;
        case 'f':
            source.sin_family = AF_INET;
            if (inet_pton(AF_INET, optarg, &source.sin_addr) != 1) die("%s: not an IPv4 address", optarg);
            break;
        case 'n': sources = (unsigned)number(optarg, 1); break;
        case 'z': sleeping = true; break;
        case 'a': ca_file = optarg; break;
        case 'e': cipher = optarg; break;
        case 'g': group = optarg; break;
        case 'i': in_turns = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    argv += optind;
    argc -= optind;
    if (argc > 0 && strcmp(*argv, "idle") == 0) {
        idle = true;
        argv++;
        argc--;
    }
    for (mode = TCP; argc > 0 && mode <= CONNECT && strcmp(*argv, modes[mode]) != 0; mode++) continue;
    if (argc != (mode == UNIX ? 2 : 3) || mode > CONNECT || (idle && mode != TCP && mode != TLS)) {
        fputs(usage, stderr);
        exit(2);
    }
    if (mode == UDP && size > 65507) die("--size %zu: a datagram has 65507 bytes at most", size);
    if (mode == UDP && window > 1 && (window > BURST || size > 1024))
        die("a burst has at most %d datagrams of 1024 bytes", BURST);
    if (mode == UNIX) {
        if (strlen(argv[1]) >= sizeof address.un.sun_path) die("%s: too long a path", argv[1]);
        address.un.sun_family = AF_UNIX;
        strcpy(address.un.sun_path, argv[1]);
        address_size = sizeof address.un;
    } else {
        address.in.sin_family = AF_INET;
        address.in.sin_port = htons((uint16_t)number(argv[2], 1));
        if (inet_pton(AF_INET, argv[1], &address.in.sin_addr) != 1) die("%s: not an IPv4 address", argv[1]);
        address_size = sizeof address.in;
    }
}

int main(int argc, char **argv) {
    uint32_t random = 2463534242;
    parse(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (mode == TLS) new_context();
    poller = epoll_create1(EPOLL_CLOEXEC);
    all = calloc(connections, sizeof *all);
    pattern_file = memfd_create("pattern", MFD_CLOEXEC);
    if (pattern_file < 0 || ftruncate(pattern_file, (off_t)(size + SPREAD)) != 0)
        die("memfd: %s", strerror(errno));
    pattern = mmap(NULL, size + SPREAD, PROT_READ | PROT_WRITE, MAP_SHARED, pattern_file, 0);
    if (mode == HANDSHAKE) {
        handshakes = calloc(connections, sizeof *handshakes);
        if (!handshakes || !handshake_prepare()) die("no TLS");
    }
    if (poller < 0 || !all || pattern == MAP_FAILED) die("out of memory");
    for (size_t i = 0; i < size + SPREAD; i++) { /* xorshift32: the same bytes in every run */
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        pattern[i] = (unsigned char)(random >> 24);
    }
    for (unsigned i = 0; i < connections; i++)
        all[i] = (Connection){.fd = -1, .index = i, .resent = UINT64_MAX};
    if (idle) run_idle();
    else run();
    return 0;
}
