/* Ask the Edgewright runtime on this device for predictions: the fast path's client for C11, libc only.
 *
 * The failure this exists for: a control loop in C that must not carry an interpreter to ask a model. Tensors lie in
 * memory shared with the runtime: write inputs where edgewright_tensor.data points, read outputs the same way; nothing
 * is copied. The protocol is specified in edge_component/contracts/README.md.
 *
 * Not thread-safe: one client for each thread. No call allocates but edgewright_open (mmap) and the system calls
 * themselves; edgewright_infer makes two, a send and a recv. Structures are the caller's; set them to zero first.
 *
 * After a fork the connection stays the parent's (forks.h). In the child the first call says EDGEWRIGHT_UNAVAILABLE, which
 * asks for what it always asks for; inputs that were written before that are nobody's, and outputs are zero.
 */
#ifndef EDGEWRIGHT_H
#define EDGEWRIGHT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGEWRIGHT_TENSORS_MAX 16
#define EDGEWRIGHT_RANK_MAX 8

enum edgewright_result {
    EDGEWRIGHT_OK = 0,
    EDGEWRIGHT_UNAVAILABLE = 1, /* nobody listens, or the runtime went away: connect again, open again, ask again */
    EDGEWRIGHT_LATE = 2,        /* no answer in time; the connection is closed, since the answer may still come */
    EDGEWRIGHT_OPEN_AGAIN = 3,  /* not answered: open the channel anew (needed_bytes says how large) and ask again */
    EDGEWRIGHT_REFUSED = 4,     /* the runtime says no: see edgewright_error.code */
    EDGEWRIGHT_MISUSE = 5,      /* the caller's: an input that does not fit, or limits of this client */
    EDGEWRIGHT_PROTOCOL = 6     /* the two do not understand each other; the connection may be closed */
};

/* Why the last call failed. code is stable and machine-readable, as listed in the protocol's specification. */
struct edgewright_error {
    char code[48];
    char message[512];
    char remedy[256];
    uint64_t needed_bytes;
    uint32_t retry_after_ms;
};

struct edgewright_client {
    int socket;
    uint32_t sequence;
    uint32_t connection; /* 0 before the first */
    uint32_t timeout_ms;
    struct edgewright_error error;
};

/* One input or output. shape is the model's, -1 being any size; dimensions is this request's or this answer's. */
struct edgewright_tensor {
    char name[128];
    char dtype[16]; /* numpy's name: float32, int64, bool, ... */
    int rank;
    int64_t shape[EDGEWRIGHT_RANK_MAX];
    uint32_t dimensions[EDGEWRIGHT_RANK_MAX];
    size_t capacity_bytes;
    void *data; /* inputs: of the next request; outputs: of the last answer */
    size_t offset;
};

/* A way to one model name, whichever version serves it. */
struct edgewright_channel {
    char model[128], version[64], digest[80]; /* who gave the last answer */
    uint32_t generation;
    uint32_t run_us; /* how long the model ran for the last answer */
    int input_count, output_count;
    struct edgewright_tensor inputs[EDGEWRIGHT_TENSORS_MAX];
    struct edgewright_tensor outputs[EDGEWRIGHT_TENSORS_MAX];
    uint16_t number;
    uint32_t connection;
    uint32_t slot_count;
    size_t slot_bytes;
    uint8_t *memory;
};

/* Room for one input whose size the model leaves open. */
struct edgewright_room {
    const char *input;
    uint64_t bytes;
};

/* Connect to infer.sock and agree on a version, hanging up first. Every later wait is bounded by timeout_ms. */
int edgewright_connect(struct edgewright_client *client, const char *socket_path, uint32_t timeout_ms);

/* Open a channel to a model; rooms may be NULL, output_bytes 0 (for outputs of open size). Close it before reuse. */
int edgewright_open(struct edgewright_client *client, struct edgewright_channel *channel, const char *model,
                    const struct edgewright_room *rooms, int room_count, uint64_t output_bytes);

/* Ask with what inputs[].data holds, in the shapes that inputs[].dimensions give. deadline_us 0: the runtime's own. */
int edgewright_infer(struct edgewright_client *client, struct edgewright_channel *channel, uint32_t deadline_us);

/* Forget a channel, here and, if it is this connection's, in the runtime, which gives a connection 16 of them unless it is
 * configured otherwise; a channel that is not open is no matter. The client's error stays what it was. */
void edgewright_close_channel(struct edgewright_client *client, struct edgewright_channel *channel);

/* Hang up. */
void edgewright_close(struct edgewright_client *client);

/* Bytes of one element, or 0 for a dtype that this client does not know. */
size_t edgewright_item_bytes(const char *dtype);

#ifdef __cplusplus
}
#endif

#endif
