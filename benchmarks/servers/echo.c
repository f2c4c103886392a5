/* The echo that the others are measured against: C, epoll, one thread.
 *
 *   echo_c tcp|udp PORT | unix PATH | tls PORT CERTIFICATE KEY      (port 0: any)
 *
 * With PROCESSES=N in its environment, so many processes, each with a socket of its own on that port
 * (SO_REUSEPORT). Prints "ready PORT" or "ready PATH" when it listens. Streams: one shared buffer, sent at once; what
 * the kernel refuses is kept, and nothing more is read until it is gone. TLS: OpenSSL on the socket.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BATCH 256
#define PROCESSES 64

typedef struct {
    int fd;
    SSL *ssl;
    bool established, ended; /* the handshake is done; the peer has sent its last byte */
    char *unsent;
    size_t length, done; /* of `unsent`: how much there is, how much of it the kernel has taken */
    uint32_t events;
} Connection;

static int poller;
static SSL_CTX *context;
static char buffer[128 * 1024];

static void die(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void watch(Connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (c->events == events) return;
    if (epoll_ctl(poller, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event) != 0) die("epoll_ctl");
    c->events = events;
}

static void drop(Connection *c) {
    if (c->ssl) SSL_free(c->ssl);
    ERR_clear_error();
    close(c->fd);
    free(c->unsent);
    free(c);
}

/* Both return how many bytes were moved, 0 for "not now", -1 for an error; `take` -2 for the end. */

static ssize_t transmit(Connection *c, const char *data, size_t length) {
    ssize_t n;
    if (c->ssl) {
        int result = SSL_write(c->ssl, data, (int)length);
        return result > 0 ? result : SSL_get_error(c->ssl, result) == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    n = send(c->fd, data, length, MSG_NOSIGNAL);
    return n >= 0 ? n : errno == EAGAIN ? 0 : -1;
}

static ssize_t take(Connection *c) {
    ssize_t n;
    if (c->ssl) {
        int result = SSL_read(c->ssl, buffer, sizeof buffer);
        if (result > 0) return result;
        switch (SSL_get_error(c->ssl, result)) {
        case SSL_ERROR_WANT_READ: return 0;
        case SSL_ERROR_ZERO_RETURN: return -2;
        default: return -1;
        }
    }
    n = recv(c->fd, buffer, sizeof buffer, 0);
    return n > 0 ? n : n == 0 ? -2 : errno == EAGAIN ? 0 : -1;
}

/* Send all of it, or keep the rest. Whether the connection still stands. */
static bool answer(Connection *c, const char *data, size_t length) {
    size_t done = 0;
    while (done < length) {
        ssize_t n = transmit(c, data + done, length - done);
        if (n < 0) return false;
        if (n == 0) {
            c->unsent = malloc(length - done);
            if (!c->unsent) die("malloc");
            c->length = length - done;
            c->done = 0;
            memcpy(c->unsent, data + done, c->length);
            watch(c, EPOLLOUT);
            return true;
        }
        done += (size_t)n;
    }
    return true;
}

static bool flush(Connection *c) {
    while (c->done < c->length) {
        ssize_t n = transmit(c, c->unsent + c->done, c->length - c->done);
        if (n <= 0) return n == 0;
        c->done += (size_t)n;
    }
    free(c->unsent);
    c->unsent = NULL;
    c->length = c->done = 0;
    watch(c, EPOLLIN);
    return !c->ended;
}

static bool receive(Connection *c) {
    do {
        ssize_t n = take(c);
        if (n == -2) {
            if (c->ssl) SSL_shutdown(c->ssl);
            return false; /* nothing is unsent here, or we would not read */
        }
        if (n <= 0) return n == 0;
        if (!answer(c, buffer, (size_t)n)) return false;
        /* The poller tells about more; but not about what OpenSSL has read ahead. */
    } while (!c->unsent && c->ssl && SSL_has_pending(c->ssl));
    return true;
}

static bool shake_hands(Connection *c) {
    int result = SSL_do_handshake(c->ssl);
    if (result == 1) {
        c->established = true;
        watch(c, EPOLLIN);
        return !SSL_has_pending(c->ssl) || receive(c);
    }
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ: watch(c, EPOLLIN); return true;
    case SSL_ERROR_WANT_WRITE: watch(c, EPOLLOUT); return true;
    default: return false;
    }
}

static bool serve(Connection *c, uint32_t events) {
    if (c->ssl && !c->established) return shake_hands(c);
    if (c->unsent) {
        if (events & (EPOLLERR | EPOLLHUP)) return false;
        if (!flush(c)) return false;
        /* What OpenSSL has read ahead wakes no poller. */
        return !c->ssl || c->unsent || !SSL_has_pending(c->ssl) || receive(c);
    }
    return receive(c);
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        Connection *c = calloc(1, sizeof *c);
        if (!c) die("calloc");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a UNIX socket refuses it */
        if (context) {
            c->ssl = SSL_new(context);
            if (!c->ssl) die("SSL_new");
            SSL_set_fd(c->ssl, fd);
            SSL_set_accept_state(c->ssl);
        }
        watch(c, EPOLLIN);
    }
}

static void serve_streams(int listener) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[BATCH];
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0) die("epoll");
    for (;;) {
        int n = epoll_wait(poller, events, BATCH, -1);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (!c) accept_all(listener);
            else if (!serve(c, events[i].events)) drop(c);
        }
    }
}

/* Two calls a datagram, and no poller between them: there is nothing else to wait for. */
static void serve_datagrams(int fd) {
    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
        if (n >= 0) sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&from, length);
    }
}

static void new_context(const char *certificate, const char *key) {
    context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        die("TLS");
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1); /* one recv a record, not one for its header and one for the rest */
}

static int bind_inet(int kind, in_port_t port, bool grouped) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = port};
    int on = 1, flags = kind == SOCK_STREAM ? SOCK_NONBLOCK : 0, fd = socket(AF_INET, kind | flags, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) die("socket");
    if (kind == SOCK_STREAM) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (grouped && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) die("SO_REUSEPORT");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) die("bind");
    if (kind == SOCK_STREAM && listen(fd, 4096) != 0) die("listen");
    return fd;
}

/* The socket of this process, of `processes`: all of them are there before any serves. */
static int listen_inet(int kind, const char *port, int processes) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int own = bind_inet(kind, htons((uint16_t)atoi(port)), processes > 1), others[PROCESSES];
    getsockname(own, (struct sockaddr *)&address, &length);
    for (int i = 1; i < processes; i++) others[i] = bind_inet(kind, address.sin_port, true);
    for (int i = 1; i < processes; i++) {
        pid_t parent = getpid(), child = fork();
        if (child < 0) die("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) exit(1);
            close(own);
            own = others[i];
            for (int j = i + 1; j < processes; j++) close(others[j]);
            return own;
        }
        close(others[i]);
    }
    printf("ready %d\n", ntohs(address.sin_port));
    return own;
}

static int listen_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0)
        die(path);
    printf("ready %s\n", path);
    return fd;
}

int main(int argc, char **argv) {
    const char *transport = argc > 1 ? argv[1] : "";
    bool tls = strcmp(transport, "tls") == 0, udp = strcmp(transport, "udp") == 0;
    const char *count = getenv("PROCESSES");
    int fd, processes = count ? atoi(count) : 1;
    if (processes < 1 || processes >= PROCESSES) {
        fprintf(stderr, "PROCESSES: expected 1 to %d\n", PROCESSES - 1);
        return 2;
    }
    if (argc != (tls ? 5 : 3)) {
        fputs("usage: echo_c tcp|udp PORT | unix PATH | tls PORT CERTIFICATE KEY\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (tls) new_context(argv[3], argv[4]);
    fd = strcmp(transport, "unix") == 0 ? listen_unix(argv[2])
                                        : listen_inet(udp ? SOCK_DGRAM : SOCK_STREAM, argv[2], processes);
    fflush(stdout);
    if (udp) serve_datagrams(fd);
    else serve_streams(fd);
}
