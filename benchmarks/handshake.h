/* See handshake.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECORD = 16384 + 512, TRANSCRIPT = 16384, ANSWER = 512 };

typedef struct {
    unsigned char key[16], iv[12];
    uint64_t sequence;
} Keys;

typedef struct {
    enum { HELLO, FLIGHT, ECHO, DONE } step;          /* what is awaited */
    unsigned char record[RECORD];                     /* as received, until it is complete */
    unsigned char transcript[TRANSCRIPT];             /* every handshake message so far */
    size_t received, heard, parsed;                   /* of `record`; of `transcript`; of that, understood */
    unsigned char server_secret[32], client_secret[32], handshake_secret[32];
    Keys in, out;
    unsigned char byte;                               /* what is to be echoed */
    const char *problem;
} Handshake;

/* Once, before everything else. */
bool handshake_prepare(void);

/* A new connection: the bytes to send first, a constant. */
size_t handshake_start(Handshake *h, unsigned char byte, const unsigned char **hello);

/* Bytes have arrived. What to send is left in `answer`; returns its length, or -1 and `problem` is set.
 * `step` is DONE when the echo has come; the answer then ends our side. */
int handshake_feed(Handshake *h, const unsigned char *data, size_t length, unsigned char answer[ANSWER]);
