/* The fast path's client; see edgewright.h. Little-endian machines only, as the protocol's numbers are. */
#define _GNU_SOURCE
#include "edgewright.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "forks.h"
#include "json.h"

#define MESSAGE_BYTES_MAX 65536
#define REQUEST_HEAD_BYTES 12
#define ANSWER_HEAD_BYTES 16
#define FAILED_HEAD_BYTES 8
#define MODEL_NAMED 1
#define SLOTS_MAX 256 /* a request has one byte for its slot */
#define ALIGNMENT_BYTES 64

enum kind {
    HELLO = 1, WELCOME = 2, OPEN = 3, OPENED = 4, CLOSE = 5, CLOSED = 6, REFUSED = 7, REQUEST = 16, ANSWER = 17, FAILED = 18
};

static int fail(struct edgewright_client *client, int result, const char *code, const char *message) {
    memset(&client->error, 0, sizeof client->error);
    snprintf(client->error.code, sizeof client->error.code, "%s", code);
    snprintf(client->error.message, sizeof client->error.message, "%s", message);
    return result;
}

/* What a failed system call means: out of time, or gone. Either way the conversation cannot go on. */
static int broken(struct edgewright_client *client) {
    int late = errno == EAGAIN || errno == EWOULDBLOCK;
    const char *why = strerror(errno);
    edgewright_close(client);
    return late ? fail(client, EDGEWRIGHT_LATE, "deadline-exceeded", "no answer in time")
                : fail(client, EDGEWRIGHT_UNAVAILABLE, "runtime-unavailable", why);
}

/* The two no longer understand each other, so that nobody knows what comes next. */
static int confused(struct edgewright_client *client, const char *message) {
    edgewright_close(client);
    return fail(client, EDGEWRIGHT_PROTOCOL, "protocol-violation", message);
}

/* After a failed call: whether a signal interrupted it and there is time to try again. The kernel would begin the wait
 * anew each time, so that a timer's signals would make it endless; *since_ms is 0 before the first of them. */
static int interrupted(const struct edgewright_client *client, int64_t *since_ms) {
    struct timespec now;
    if (errno != EINTR) return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (!*since_ms) *since_ms = now_ms;
    if (now_ms - *since_ms < client->timeout_ms) return 1;
    errno = EAGAIN;
    return 0;
}

static int say(struct edgewright_client *client, const void *message, size_t size) {
    if (!client->connection || client->socket < 0)
        return fail(client, EDGEWRIGHT_UNAVAILABLE, "runtime-unavailable", "not connected");
    if (forks_is_foreign(client->connection)) {
        edgewright_close(client); /* this process's copy of the descriptor: the parent's connection goes on */
        return fail(client, EDGEWRIGHT_UNAVAILABLE, "runtime-unavailable", "the process was forked: connect and open again");
    }
    ssize_t sent;
    int64_t since_ms = 0;
    do sent = send(client->socket, message, size, MSG_NOSIGNAL);
    while (sent < 0 && interrupted(client, &since_ms));
    return sent < 0 && errno != EPIPE ? broken(client) : EDGEWRIGHT_OK; /* EPIPE: turned away; why waits to be read */
}

/* One message, with the descriptor that came with it or -1. */
static int hear(struct edgewright_client *client, uint8_t *message, size_t *size, int *descriptor) {
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control;
    struct iovec part = {message, MESSAGE_BYTES_MAX};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                            .msg_controllen = CMSG_LEN(sizeof(int))}; /* its padding would have room for a second one */
    ssize_t received;
    int64_t since_ms = 0;
    do received = recvmsg(client->socket, &header, MSG_CMSG_CLOEXEC);
    while (received < 0 && interrupted(client, &since_ms));
    if (received <= 0) {
        if (received == 0) errno = ECONNRESET;
        return broken(client);
    }
    struct cmsghdr *found = CMSG_FIRSTHDR(&header);
    *descriptor = -1;
    if (found && found->cmsg_level == SOL_SOCKET && found->cmsg_type == SCM_RIGHTS)
        memcpy(descriptor, CMSG_DATA(found), sizeof(int));
    *size = (size_t)received;
    return EDGEWRIGHT_OK;
}

/* An error as the runtime tells it. */
static int refused(struct edgewright_client *client, struct json failure) {
    struct edgewright_error *error = &client->error;
    int64_t needed = 0, retry = 0;
    memset(error, 0, sizeof *error);
    if (!json_text(json_member(failure, "code"), error->code, sizeof error->code))
        return confused(client, "an error without a code");
    json_text(json_member(failure, "message"), error->message, sizeof error->message);
    json_text(json_member(failure, "remedy"), error->remedy, sizeof error->remedy);
    if (json_integer(json_member(failure, "needed_bytes"), &needed)) error->needed_bytes = (uint64_t)needed;
    if (json_integer(json_member(failure, "retry_after_ms"), &retry)) error->retry_after_ms = (uint32_t)retry;
    if (!strcmp(error->code, "stale-channel") || !strcmp(error->code, "answer-too-large") ||
        !strcmp(error->code, "unknown-channel"))
        return EDGEWRIGHT_OPEN_AGAIN;
    return strcmp(error->code, "deadline-exceeded") ? EDGEWRIGHT_REFUSED : EDGEWRIGHT_LATE;
}

/* Send a control message and receive its answer's JSON; message holds both, and must stay as long as the JSON is read. */
static int exchange(struct edgewright_client *client, uint8_t *message, size_t size, uint8_t expected,
                    struct json *answer, int *descriptor) {
    size_t received = 0;
    int result = say(client, message, size);
    if (result || (result = hear(client, message, &received, descriptor))) return result;
    *answer = (struct json){(const char *)message + 1, (const char *)message + received};
    if (message[0] == expected) return EDGEWRIGHT_OK;
    if (*descriptor >= 0) close(*descriptor);
    *descriptor = -1;
    return message[0] == REFUSED ? refused(client, *answer) : confused(client, "an unexpected message");
}

int edgewright_connect(struct edgewright_client *client, const char *socket_path, uint32_t timeout_ms) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {timeout_ms / 1000, timeout_ms ? timeout_ms % 1000 * 1000 : 1};
    uint8_t message[MESSAGE_BYTES_MAX];
    struct json welcome;
    int descriptor = -1, size;

    edgewright_close(client); /* who connects again has lost the connection, or gives it up */
    memset(client, 0, sizeof *client);
    client->socket = -1;
    client->timeout_ms = timeout_ms;
    if (!(client->connection = forks_new_connection())) return fail(client, EDGEWRIGHT_MISUSE, "memory", strerror(errno));
    if (strlen(socket_path) >= sizeof address.sun_path)
        return fail(client, EDGEWRIGHT_MISUSE, "socket-path", "the path is longer than the kernel takes (107 bytes)");
    strcpy(address.sun_path, socket_path);
    client->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (client->socket < 0) return broken(client);
    setsockopt(client->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(client->socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(client->socket, (struct sockaddr *)&address, sizeof address)) return broken(client);
    size = snprintf((char *)message, sizeof message,
                    "%c{\"client\":\"c\",\"schema\":\"edgewright.fastpath-hello/1\",\"thread_id\":%ld,\"versions\":[1]}",
                    HELLO, (long)syscall(SYS_gettid));
    int result = exchange(client, message, (size_t)size, WELCOME, &welcome, &descriptor);
    if (descriptor >= 0) close(descriptor); /* nobody asked for it */
    if (result) edgewright_close(client);
    return result;
}

static int is_plain(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == '"' || *text == '\\') return 0;
    return 1;
}

/* One region of OPENED. */
static int read_tensor(struct json region, struct edgewright_tensor *tensor) {
    struct json spec = json_member(region, "spec"), shape = json_member(spec, "shape"), element;
    int64_t offset, capacity;
    memset(tensor, 0, sizeof *tensor);
    if (!json_text(json_member(spec, "name"), tensor->name, sizeof tensor->name) ||
        !json_text(json_member(spec, "dtype"), tensor->dtype, sizeof tensor->dtype) ||
        !json_integer(json_member(region, "offset"), &offset) ||
        !json_integer(json_member(region, "capacity_bytes"), &capacity) || !edgewright_item_bytes(tensor->dtype))
        return 0;
    tensor->offset = (size_t)offset;
    tensor->capacity_bytes = (size_t)capacity;
    for (element = json_first(shape); element.at; element = json_next(element, shape)) {
        if (tensor->rank == EDGEWRIGHT_RANK_MAX || !json_integer(element, &tensor->shape[tensor->rank]) ||
            tensor->shape[tensor->rank] > UINT32_MAX)
            return 0;
        tensor->dimensions[tensor->rank] = tensor->shape[tensor->rank] < 0 ? 1 : (uint32_t)tensor->shape[tensor->rank];
        tensor->rank++;
    }
    return 1;
}

static int read_tensors(struct json regions, struct edgewright_tensor *tensors, int *count) {
    *count = 0;
    for (struct json region = json_first(regions); region.at; region = json_next(region, regions))
        if (*count == EDGEWRIGHT_TENSORS_MAX || !read_tensor(region, &tensors[(*count)++])) return 0;
    return 1;
}

static void read_model(struct json model, struct edgewright_channel *channel) {
    json_text(json_member(model, "name"), channel->model, sizeof channel->model);
    json_text(json_member(model, "version"), channel->version, sizeof channel->version);
    json_text(json_member(model, "digest"), channel->digest, sizeof channel->digest);
}

static void point(struct edgewright_tensor *tensors, int count, uint8_t *slot) {
    for (int index = 0; index < count; index++) tensors[index].data = slot + tensors[index].offset;
}

static uint8_t *slot_of(const struct edgewright_channel *channel, uint32_t sequence) {
    return channel->memory + (sequence % channel->slot_count) * channel->slot_bytes;
}

/* What a region claims must lie inside of its slot, and where any element may be read. */
static int fits(const struct edgewright_tensor *tensors, int count, size_t slot_bytes) {
    for (int index = 0; index < count; index++)
        if (tensors[index].offset % ALIGNMENT_BYTES || tensors[index].offset > slot_bytes || tensors[index].capacity_bytes > slot_bytes - tensors[index].offset)
            return 0;
    return 1;
}

/* Whether so much memory is there and stays there: who touches what was taken away is ended by a signal (SIGBUS). */
static int is_lasting(int descriptor, size_t bytes) {
    struct stat file;
    int seals = fcntl(descriptor, F_GET_SEALS);
    return seals >= 0 && seals & F_SEAL_SHRINK && !fstat(descriptor, &file) && (uint64_t)file.st_size >= bytes;
}

/* Have the runtime forget a channel. Whatever goes wrong shows with the next call, so what was said before stays. */
static void close_there(struct edgewright_client *client, uint16_t number) {
    struct edgewright_error said = client->error;
    uint8_t message[MESSAGE_BYTES_MAX];
    struct json closed;
    int descriptor = -1;
    size_t used = (size_t)snprintf((char *)message, sizeof message, "%c{\"channel\":%u}", CLOSE, number);
    exchange(client, message, used, CLOSED, &closed, &descriptor);
    if (descriptor >= 0) close(descriptor);
    client->error = said;
}

/* After OPENED came: the runtime holds a channel that this client cannot use. */
static int unusable(struct edgewright_client *client, int descriptor, int64_t number, const char *code, const char *why) {
    int result = fail(client, strcmp(code, "protocol-violation") ? EDGEWRIGHT_MISUSE : EDGEWRIGHT_PROTOCOL, code, why);
    if (descriptor >= 0) close(descriptor);
    close_there(client, (uint16_t)number);
    return result;
}

int edgewright_open(struct edgewright_client *client, struct edgewright_channel *channel, const char *model,
                    const struct edgewright_room *rooms, int room_count, uint64_t output_bytes) {
    uint8_t message[MESSAGE_BYTES_MAX];
    struct json opened;
    int descriptor = -1, result;
    int64_t number, slots, slot_bytes, generation;
    size_t used = (size_t)snprintf((char *)message, sizeof message, "%c{\"input_bytes\":{", OPEN);

    memset(channel, 0, sizeof *channel);
    if (!is_plain(model) || strlen(model) >= sizeof channel->model || room_count > EDGEWRIGHT_TENSORS_MAX)
        return fail(client, EDGEWRIGHT_MISUSE, "model-name", "a model's name is plain text of at most 127 bytes");
    for (int index = 0; index < room_count; index++) {
        if (!is_plain(rooms[index].input) || strlen(rooms[index].input) > 127)
            return fail(client, EDGEWRIGHT_MISUSE, "input-name", "an input's name is plain text of at most 127 bytes");
        used += (size_t)snprintf((char *)message + used, sizeof message - used, "%s\"%s\":%" PRIu64, index ? "," : "",
                                 rooms[index].input, rooms[index].bytes);
    }
    used += (size_t)snprintf((char *)message + used, sizeof message - used,
                             "},\"model\":\"%s\",\"output_bytes\":%" PRIu64 ",\"schema\":\"edgewright.fastpath-open/1\"}",
                             model, output_bytes);
    if ((result = exchange(client, message, used, OPENED, &opened, &descriptor))) return result;
    if (!json_integer(json_member(opened, "channel"), &number) || number < 0 || number > UINT16_MAX) {
        if (descriptor >= 0) close(descriptor);
        return confused(client, "a channel without a number");
    }
    if (descriptor < 0)
        return unusable(client, -1, number, "descriptors", "no memory came with the channel: too many files are open here");
    if (!json_integer(json_member(opened, "slot_count"), &slots) || slots < 1 || slots > SLOTS_MAX ||
        !json_integer(json_member(opened, "slot_bytes"), &slot_bytes) || slot_bytes < 1 ||
        slot_bytes % ALIGNMENT_BYTES || (uint64_t)slot_bytes > SIZE_MAX / 2 / SLOTS_MAX ||
        !json_integer(json_member(opened, "generation"), &generation) ||
        !read_tensors(json_member(opened, "inputs"), channel->inputs, &channel->input_count) ||
        !read_tensors(json_member(opened, "outputs"), channel->outputs, &channel->output_count) ||
        !fits(channel->inputs, channel->input_count, (size_t)slot_bytes) ||
        !fits(channel->outputs, channel->output_count, (size_t)slot_bytes))
        return unusable(client, descriptor, number, "protocol-violation",
                        "the channel cannot be used (more than 16 tensors, 8 dimensions, or an unknown dtype?)");
    if (!is_lasting(descriptor, (size_t)slots * (size_t)slot_bytes))
        return unusable(client, descriptor, number, "protocol-violation", "the memory is too small, or may shrink");
    channel->connection = client->connection;
    channel->number = (uint16_t)number;
    channel->slot_count = (uint32_t)slots;
    channel->slot_bytes = (size_t)slot_bytes;
    channel->generation = (uint32_t)generation;
    read_model(json_member(opened, "model"), channel);
    channel->memory = forks_map(descriptor, channel->slot_count * channel->slot_bytes);
    if (!channel->memory) return unusable(client, descriptor, number, "memory", strerror(errno));
    close(descriptor);
    point(channel->inputs, channel->input_count, slot_of(channel, client->sequence + 1));
    return EDGEWRIGHT_OK;
}

/* Whether a tensor of these dimensions stays inside of its region. */
static int has_room(const struct edgewright_tensor *tensor) {
    uint64_t bytes = edgewright_item_bytes(tensor->dtype);
    for (int axis = 0; axis < tensor->rank; axis++)
        if (__builtin_mul_overflow(bytes, (uint64_t)tensor->dimensions[axis], &bytes)) return 0;
    return bytes <= tensor->capacity_bytes;
}

static int read_answer(struct edgewright_client *client, struct edgewright_channel *channel, const uint8_t *message,
                       size_t size) {
    uint32_t sequence, generation, *dimension;
    size_t at = ANSWER_HEAD_BYTES;
    if (size < ANSWER_HEAD_BYTES) return confused(client, "a truncated answer");
    memcpy(&sequence, message + 4, 4);
    memcpy(&generation, message + 8, 4);
    memcpy(&channel->run_us, message + 12, 4);
    if (sequence != client->sequence)
        return confused(client, "the answer to another request");
    for (int index = 0; index < channel->output_count; index++)
        for (int axis = 0; axis < channel->outputs[index].rank; axis++, at += 4) {
            dimension = &channel->outputs[index].dimensions[axis];
            if (at + 4 > size) return confused(client, "a truncated answer");
            memcpy(dimension, message + at, 4);
        }
    for (int index = 0; index < channel->output_count; index++)
        if (!has_room(&channel->outputs[index]))
            return confused(client, "an output beyond its region");
    if (message[1] & MODEL_NAMED)
        read_model((struct json){(const char *)message + at, (const char *)message + size}, channel);
    channel->generation = generation;
    point(channel->outputs, channel->output_count, slot_of(channel, sequence));
    point(channel->inputs, channel->input_count, slot_of(channel, sequence + 1));
    return EDGEWRIGHT_OK;
}

int edgewright_infer(struct edgewright_client *client, struct edgewright_channel *channel, uint32_t deadline_us) {
    uint8_t request[REQUEST_HEAD_BYTES + 4 * EDGEWRIGHT_RANK_MAX * EDGEWRIGHT_TENSORS_MAX], answer[MESSAGE_BYTES_MAX];
    size_t used = REQUEST_HEAD_BYTES;
    uint32_t sequence = client->sequence + 1;

    if (!channel->memory) return fail(client, EDGEWRIGHT_MISUSE, "channel", "the channel is not open");
    if (channel->connection != client->connection)
        return fail(client, EDGEWRIGHT_OPEN_AGAIN, "stale-channel", "the channel is an earlier connection's: open it again");
    request[0] = REQUEST;
    request[1] = (uint8_t)(sequence % channel->slot_count);
    memcpy(request + 2, &channel->number, 2);
    memcpy(request + 4, &sequence, 4);
    memcpy(request + 8, &deadline_us, 4);
    for (int index = 0; index < channel->input_count; index++) {
        const struct edgewright_tensor *input = &channel->inputs[index];
        if (!has_room(input)) {
            fail(client, EDGEWRIGHT_MISUSE, "input-shape", "larger than its region: open the channel with more room for");
            strncat(client->error.message, " ", sizeof client->error.message - strlen(client->error.message) - 1);
            strncat(client->error.message, input->name, sizeof client->error.message - strlen(client->error.message) - 1);
            return EDGEWRIGHT_MISUSE;
        }
        memcpy(request + used, input->dimensions, 4 * (size_t)input->rank);
        used += 4 * (size_t)input->rank;
    }
    client->sequence = sequence;
    int result = say(client, request, used);
    if (result) return result;
    ssize_t size;
    int64_t since_ms = 0;
    do size = recv(client->socket, answer, sizeof answer, 0);
    while (size < 0 && interrupted(client, &since_ms));
    if (size <= 0) {
        if (size == 0) errno = ECONNRESET;
        return broken(client);
    }
    if (answer[0] == ANSWER) return read_answer(client, channel, answer, (size_t)size);
    point(channel->inputs, channel->input_count, slot_of(channel, sequence + 1));
    if (answer[0] == FAILED && size > FAILED_HEAD_BYTES)
        return refused(client, (struct json){(const char *)answer + FAILED_HEAD_BYTES, (const char *)answer + size});
    if (answer[0] == REFUSED) return refused(client, (struct json){(const char *)answer + 1, (const char *)answer + size});
    return confused(client, "an unexpected message");
}

void edgewright_close_channel(struct edgewright_client *client, struct edgewright_channel *channel) {
    if (channel->memory) {
        if (channel->connection == client->connection) close_there(client, channel->number);
        forks_unmap(channel->memory);
    }
    memset(channel, 0, sizeof *channel);
}

void edgewright_close(struct edgewright_client *client) {
    if (client->connection && client->socket >= 0) close(client->socket); /* 0 is a socket only after connecting */
    client->socket = -1;
}

size_t edgewright_item_bytes(const char *dtype) {
    static const struct { const char *name; size_t bytes; } known[] = {
        {"float32", 4}, {"float64", 8}, {"float16", 2}, {"bfloat16", 2}, {"bool", 1}, {"int8", 1}, {"int16", 2},
        {"int32", 4}, {"int64", 8}, {"uint8", 1}, {"uint16", 2}, {"uint32", 4}, {"uint64", 8},
    };
    for (size_t index = 0; index < sizeof known / sizeof *known; index++)
        if (!strcmp(dtype, known[index].name)) return known[index].bytes;
    return 0;
}
