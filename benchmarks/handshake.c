/* The client's side of a TLS 1.3 handshake (RFC 8446), as cheap as it can be, and then one echoed byte.
 *
 * A server's handshake costs about half of what a client's costs with OpenSSL, which decodes
 * and verifies certificates: on one core against one core, the client would decide the race. So this
 * client offers one suite (TLS_AES_128_GCM_SHA256) and one group (X25519) with the same key every time,
 * and takes no interest in who the server is. The server cannot tell, and does all of its work: its
 * Finished is checked, which it can only compute after the full key exchange. Never use it for
 * anything that needs a secret.
 *
 * Rules: no input or output; everything from OpenSSL is fetched once.
 */

#include "handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#define HASH 32
#define TAG 16

enum { ALERT = 21, HANDSHAKE_RECORD = 22, APPLICATION = 23, CHANGE_CIPHER_SPEC = 20 }; /* record types */
enum { SERVER_HELLO = 2, FINISHED = 20 };                                              /* messages */

static EVP_MD *sha256;
static EVP_MD_CTX *digest;
static EVP_CIPHER *gcm;
static EVP_CIPHER_CTX *sealing, *opening;
static EVP_PKEY *private;
static unsigned char derived_early[HASH], empty_hash[HASH];

static unsigned char hello[] = {
    HANDSHAKE_RECORD, 3, 1, 0, 0, /* length: set below */
    1, 0, 0, 0, 3, 3,             /* ClientHello, its length (below), TLS 1.2 */
    /* random; the server's is random enough for both */
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 0,                      /* no session */
    0, 2, 0x13, 0x01, 1, 0,             /* TLS_AES_128_GCM_SHA256; no compression */
    0, 75,                              /* extensions */
    0, 43, 0, 3, 2, 3, 4,               /* supported_versions: 1.3 */
    0, 10, 0, 4, 0, 2, 0, 29,           /* supported_groups: X25519 */
    0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1, /* signature_algorithms: ECDSA with P-256, RSA-PSS, RSA */
    0, 45, 0, 2, 1, 1,                  /* psk_key_exchange_modes: we like tickets, as all clients do */
    0, 51, 0, 38, 0, 36, 0, 29, 0, 32,  /* key_share: X25519, and the public key (below) */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

/* Hashes and keys (RFC 2104, RFC 5869, RFC 8446 section 7.1). */

static void hash(const unsigned char *data, size_t length, unsigned char out[HASH]) {
    EVP_DigestInit_ex2(digest, sha256, NULL);
    EVP_DigestUpdate(digest, data, length);
    EVP_DigestFinal_ex(digest, out, NULL);
}

static void hmac(const unsigned char key[HASH], const unsigned char *data, size_t length,
                 unsigned char out[HASH]) {
    unsigned char pad[64], inner[HASH];
    for (size_t i = 0; i < sizeof pad; i++) pad[i] = (i < HASH ? key[i] : 0) ^ 0x36;
    EVP_DigestInit_ex2(digest, sha256, NULL);
    EVP_DigestUpdate(digest, pad, sizeof pad);
    EVP_DigestUpdate(digest, data, length);
    EVP_DigestFinal_ex(digest, inner, NULL);
    for (size_t i = 0; i < sizeof pad; i++) pad[i] ^= 0x36 ^ 0x5c;
    EVP_DigestInit_ex2(digest, sha256, NULL);
    EVP_DigestUpdate(digest, pad, sizeof pad);
    EVP_DigestUpdate(digest, inner, HASH);
    EVP_DigestFinal_ex(digest, out, NULL);
}

/* HKDF-Expand-Label, for up to one hash of output. */
static void expand(const unsigned char secret[HASH], const char *label, const unsigned char *about,
                   size_t about_length, unsigned char *out, size_t length) {
    unsigned char info[128], full[HASH];
    size_t label_length = strlen(label), n = 0;
    info[n++] = 0;
    info[n++] = (unsigned char)length;
    info[n++] = (unsigned char)(6 + label_length);
    memcpy(info + n, "tls13 ", 6);
    memcpy(info + n + 6, label, label_length);
    n += 6 + label_length;
    info[n++] = (unsigned char)about_length;
    if (about_length) memcpy(info + n, about, about_length);
    n += about_length;
    info[n++] = 1;
    hmac(secret, info, n, full);
    memcpy(out, full, length);
}

static void derive(const unsigned char secret[HASH], const char *label, const unsigned char about[HASH],
                   unsigned char out[HASH]) {
    expand(secret, label, about, HASH, out, HASH);
}

static Keys traffic_keys(const unsigned char secret[HASH]) {
    Keys keys = {.sequence = 0};
    expand(secret, "key", NULL, 0, keys.key, sizeof keys.key);
    expand(secret, "iv", NULL, 0, keys.iv, sizeof keys.iv);
    return keys;
}

static void finished(const unsigned char secret[HASH], const unsigned char about[HASH],
                     unsigned char out[HASH]) {
    unsigned char key[HASH];
    expand(secret, "finished", NULL, 0, key, HASH);
    hmac(key, about, HASH, out);
}

/* Records (section 5.2). */

static void next_nonce(Keys *keys, unsigned char nonce[12]) {
    memcpy(nonce, keys->iv, 12);
    for (int i = 0; i < 8; i++) nonce[11 - i] ^= (unsigned char)(keys->sequence >> (8 * i));
    keys->sequence++;
}

static size_t seal(Keys *keys, unsigned char type, const unsigned char *data, size_t length,
                   unsigned char *out) {
    unsigned char nonce[12];
    size_t sealed = length + 1 + TAG;
    int n;
    next_nonce(keys, nonce);
    memcpy(out, (unsigned char[]){APPLICATION, 3, 3, (unsigned char)(sealed >> 8), (unsigned char)sealed}, 5);
    EVP_EncryptInit_ex2(sealing, gcm, keys->key, nonce, NULL);
    EVP_EncryptUpdate(sealing, NULL, &n, out, 5);
    EVP_EncryptUpdate(sealing, out + 5, &n, data, (int)length);
    EVP_EncryptUpdate(sealing, out + 5 + length, &n, &type, 1);
    EVP_EncryptFinal_ex(sealing, out + 5 + length + 1, &n);
    EVP_CIPHER_CTX_ctrl(sealing, EVP_CTRL_AEAD_GET_TAG, TAG, out + 5 + length + 1);
    return 5 + sealed;
}

/* Decrypt a record in its place: its length without padding and type, or -1. */
static int open_record(Keys *keys, unsigned char *record, size_t length, unsigned char *type) {
    unsigned char nonce[12], *body = record + 5;
    int n, plain = (int)length - 5 - TAG;
    if (plain < 1) return -1;
    next_nonce(keys, nonce);
    EVP_DecryptInit_ex2(opening, gcm, keys->key, nonce, NULL);
    EVP_CIPHER_CTX_ctrl(opening, EVP_CTRL_AEAD_SET_TAG, TAG, body + plain);
    EVP_DecryptUpdate(opening, NULL, &n, record, 5);
    EVP_DecryptUpdate(opening, body, &n, body, plain);
    if (EVP_DecryptFinal_ex(opening, body + plain, &n) != 1) return -1;
    while (plain > 0 && body[plain - 1] == 0) plain--;
    if (plain == 0) return -1;
    *type = body[plain - 1];
    return plain - 1;
}

/* The exchange. */

bool handshake_prepare(void) {
    unsigned char zero[HASH] = {0}, early[HASH], scalar[HASH];
    size_t length = HASH;
    memset(scalar, 0x42, sizeof scalar);
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    gcm = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    digest = EVP_MD_CTX_new();
    sealing = EVP_CIPHER_CTX_new();
    opening = EVP_CIPHER_CTX_new();
    private = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, scalar, sizeof scalar);
    if (!sha256 || !gcm || !digest || !sealing || !opening || !private) return false;
    if (EVP_PKEY_get_raw_public_key(private, hello + sizeof hello - HASH, &length) != 1) return false;
    hello[4] = sizeof hello - 5;
    hello[8] = sizeof hello - 9;
    hash(NULL, 0, empty_hash);
    hmac(zero, zero, HASH, early);
    derive(early, "derived", empty_hash, derived_early);
    return true;
}

size_t handshake_start(Handshake *h, unsigned char byte, const unsigned char **first) {
    h->step = HELLO;
    h->received = 0;
    h->byte = byte;
    h->problem = NULL;
    memcpy(h->transcript, hello + 5, sizeof hello - 5);
    h->heard = h->parsed = sizeof hello - 5;
    *first = hello;
    return sizeof hello;
}

static bool exchange_keys(const unsigned char theirs[32], unsigned char shared[32]) {
    EVP_PKEY *public = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, theirs, 32);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(private, NULL);
    size_t length = 32;
    bool done = public && context && EVP_PKEY_derive_init(context) == 1 &&
                EVP_PKEY_derive_set_peer(context, public) == 1 &&
                EVP_PKEY_derive(context, shared, &length) == 1;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(public);
    return done;
}

/* Find the X25519 share in a ServerHello, which consists of what it chose from our offer. */
static const unsigned char *server_share(const unsigned char *message, size_t length) {
    size_t at = 4 + 2 + 32;
    if (length <= at) return NULL;
    at += 1 + message[at] + 2 + 1 + 2; /* session, suite, compression, length of extensions */
    while (at + 4 <= length) {
        size_t size = (size_t)message[at + 2] << 8 | message[at + 3];
        if (message[at] == 0 && message[at + 1] == 51) /* a HelloRetryRequest has a shorter one */
            return size == 36 && at + 40 <= length && message[at + 5] == 29 ? message + at + 8 : NULL;
        at += 4 + size;
    }
    return NULL;
}

static bool on_hello(Handshake *h, const unsigned char *message, size_t length) {
    unsigned char shared[32], about[HASH];
    const unsigned char *theirs = message[0] == SERVER_HELLO ? server_share(message, length) : NULL;
    if (!theirs || !exchange_keys(theirs, shared)) return false;
    hmac(derived_early, shared, sizeof shared, h->handshake_secret);
    hash(h->transcript, h->parsed, about);
    derive(h->handshake_secret, "s hs traffic", about, h->server_secret);
    derive(h->handshake_secret, "c hs traffic", about, h->client_secret);
    h->in = traffic_keys(h->server_secret);
    h->step = FLIGHT;
    return true;
}

/* Our Finished, and the byte that is to be echoed, in one answer. */
static int on_finished(Handshake *h, const unsigned char *message, size_t length, unsigned char *answer) {
    unsigned char about[HASH], expected[HASH], derived[HASH], master[HASH], secret[HASH], zero[HASH] = {0};
    unsigned char ours[4 + HASH] = {FINISHED, 0, 0, HASH};
    Keys keys = traffic_keys(h->client_secret);
    size_t n;
    hash(h->transcript, h->parsed - length, about);
    finished(h->server_secret, about, expected);
    if (length != 4 + HASH || CRYPTO_memcmp(message + 4, expected, HASH) != 0) return -1;
    hash(h->transcript, h->parsed, about);
    finished(h->client_secret, about, ours + 4);
    n = seal(&keys, HANDSHAKE_RECORD, ours, sizeof ours, answer);
    derive(h->handshake_secret, "derived", empty_hash, derived);
    hmac(derived, zero, HASH, master);
    derive(master, "s ap traffic", about, secret);
    h->in = traffic_keys(secret);
    derive(master, "c ap traffic", about, secret);
    h->out = traffic_keys(secret);
    h->step = ECHO;
    return (int)(n + seal(&h->out, APPLICATION, &h->byte, 1, answer + n));
}

/* Handshake messages, whichever way they are spread over records. */
static int on_messages(Handshake *h, const unsigned char *data, size_t length, unsigned char *answer) {
    if (h->step == ECHO) return 0; /* tickets */
    if (h->heard + length > TRANSCRIPT) return -1;
    memcpy(h->transcript + h->heard, data, length);
    h->heard += length;
    while (h->heard - h->parsed >= 4) {
        const unsigned char *message = h->transcript + h->parsed;
        size_t size = 4 + ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
        if (h->heard - h->parsed < size) break;
        h->parsed += size;
        if (h->step == HELLO) return on_hello(h, message, size) ? 0 : -1; /* the end of its record */
        if (message[0] == FINISHED) return on_finished(h, message, size, answer);
    }
    return 0;
}

static int on_record(Handshake *h, size_t length, unsigned char *answer) {
    unsigned char type = h->record[0];
    int plain = (int)length - 5;
    if (type == CHANGE_CIPHER_SPEC) return 0; /* means nothing (section 5) */
    if (type == APPLICATION && h->step != HELLO) plain = open_record(&h->in, h->record, length, &type);
    if (plain < 0) {
        h->problem = "a record cannot be decrypted";
        return -1;
    }
    if (type == HANDSHAKE_RECORD) {
        int n = on_messages(h, h->record + 5, (size_t)plain, answer);
        if (n < 0) h->problem = "a wrong handshake message";
        return n;
    }
    if (type != APPLICATION || h->step != ECHO || plain != 1 || h->record[5] != h->byte) {
        h->problem = type == ALERT ? "an alert" : "the echo differs from what was sent";
        return -1;
    }
    h->step = DONE;
    return (int)seal(&h->out, ALERT, (const unsigned char[]){1, 0}, 2, answer); /* close_notify */
}

int handshake_feed(Handshake *h, const unsigned char *data, size_t length, unsigned char answer[ANSWER]) {
    int answered = 0;
    while (length > 0 && h->step != DONE) {
        size_t whole = h->received < 5 ? 5 : 5 + ((size_t)h->record[3] << 8 | h->record[4]), part;
        if (whole > RECORD || (h->received == 5 && whole == 5)) {
            h->problem = "a record of impossible length";
            return -1;
        }
        part = whole - h->received < length ? whole - h->received : length;
        memcpy(h->record + h->received, data, part);
        h->received += part;
        data += part;
        length -= part;
        if (h->received == whole && whole > 5) {
            int n = on_record(h, whole, answer + answered);
            if (n < 0) return -1;
            answered += n;
            h->received = 0;
        }
    }
    return answered;
}
