/* Ask a model from C: example SOCKET MODEL [--repeat COUNT] [--warm COUNT] [--in-place] NAME:DIMxDIM...=FILE...
 *
 * Each FILE holds one input's bytes in C order (a scalar is NAME:=FILE). Prints who answered and every output's numbers;
 * with --repeat it asks that often, through swaps and restarts of the runtime, and prints the latency too, without that of
 * as many requests before as --warm says. With --in-place the inputs are written when the channel is opened and not again:
 * the latency of a program whose camera or decoder writes them where the runtime reads them.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edgewright.h"

#define TIMEOUT_MS 5000

struct given {
    char name[128];
    int rank;
    uint32_t dimensions[EDGEWRIGHT_RANK_MAX];
    unsigned char *bytes;
    size_t size;
};

static int read_given(const char *argument, struct given *given) {
    const char *colon = strchr(argument, ':'), *equals = colon ? strchr(colon, '=') : NULL;
    if (!equals || (size_t)(colon - argument) >= sizeof given->name) return 0;
    memcpy(given->name, argument, (size_t)(colon - argument));
    for (const char *at = colon + 1; at < equals && given->rank < EDGEWRIGHT_RANK_MAX; at++)
        given->dimensions[given->rank++] = (uint32_t)strtoul(at, (char **)&at, 10);
    FILE *file = fopen(equals + 1, "rb");
    if (!file) return 0;
    fseek(file, 0, SEEK_END);
    given->size = (size_t)ftell(file);
    rewind(file);
    given->bytes = malloc(given->size + 1);
    int whole = given->bytes && fread(given->bytes, 1, given->size, file) == given->size;
    fclose(file);
    return whole;
}

static int put(struct edgewright_channel *channel, const struct given *given, int count) {
    for (int index = 0; index < channel->input_count; index++) {
        struct edgewright_tensor *input = &channel->inputs[index];
        const struct given *found = NULL;
        for (int other = 0; other < count; other++)
            if (!strcmp(given[other].name, input->name)) found = &given[other];
        if (!found || found->rank != input->rank || found->size > input->capacity_bytes) return 0;
        size_t wanted = edgewright_item_bytes(input->dtype);
        for (int axis = 0; axis < found->rank; axis++) wanted *= found->dimensions[axis];
        if (found->size != wanted) return 0;
        memcpy(input->dimensions, found->dimensions, sizeof input->dimensions);
        memcpy(input->data, found->bytes, found->size);
    }
    return 1;
}

/* Of every type that C has a name for: not of float16 and bfloat16. */
static int number_at(const struct edgewright_tensor *tensor, size_t index, double *number) {
    const char *dtype = tensor->dtype;
    const void *data = tensor->data;
    if (!strcmp(dtype, "float32")) *number = ((const float *)data)[index];
    else if (!strcmp(dtype, "float64")) *number = ((const double *)data)[index];
    else if (!strcmp(dtype, "int64")) *number = (double)((const int64_t *)data)[index];
    else if (!strcmp(dtype, "uint64")) *number = (double)((const uint64_t *)data)[index];
    else if (!strcmp(dtype, "int32")) *number = ((const int32_t *)data)[index];
    else if (!strcmp(dtype, "uint32")) *number = ((const uint32_t *)data)[index];
    else if (!strcmp(dtype, "int16")) *number = ((const int16_t *)data)[index];
    else if (!strcmp(dtype, "uint16")) *number = ((const uint16_t *)data)[index];
    else if (!strcmp(dtype, "int8")) *number = ((const int8_t *)data)[index];
    else if (!strcmp(dtype, "uint8") || !strcmp(dtype, "bool")) *number = ((const uint8_t *)data)[index];
    else return 0;
    return 1;
}

static void print_answer(const struct edgewright_channel *channel) {
    printf("model %s %s %s\n", channel->model, channel->version, channel->digest);
    for (int index = 0; index < channel->output_count; index++) {
        const struct edgewright_tensor *output = &channel->outputs[index];
        size_t count = 1;
        printf("output %s", output->name);
        for (int axis = 0; axis < output->rank; axis++) {
            printf(" %u", output->dimensions[axis]);
            count *= output->dimensions[axis];
        }
        printf("\n");
        for (size_t item = 0; item < count; item++) {
            double number;
            if (number_at(output, item, &number)) printf("%.17g%c", number, item + 1 < count ? ' ' : '\n');
            else item = count, printf("%s is not printed here\n", output->dtype);
        }
    }
}

/* Connected, with an open channel that has room for what is given. */
static int ready(struct edgewright_client *client, struct edgewright_channel *channel, const char *path,
                 const char *model, const struct given *given, int count) {
    struct edgewright_room rooms[EDGEWRIGHT_TENSORS_MAX];
    uint64_t needed = client->error.needed_bytes;
    int result = client->socket < 0 ? edgewright_connect(client, path, TIMEOUT_MS) : EDGEWRIGHT_OK;
    for (int index = 0; index < count; index++) rooms[index] = (struct edgewright_room){given[index].name, given[index].size};
    edgewright_close_channel(client, channel);
    return result ? result : edgewright_open(client, channel, model, rooms, count, needed);
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_size(const void *one, const void *other) {
    double left = *(const double *)one, right = *(const double *)other;
    return (left > right) - (left < right);
}

int main(int count, char **arguments) {
    struct edgewright_client client = {.socket = -1};
    struct edgewright_channel channel = {0};
    static struct given given[EDGEWRIGHT_TENSORS_MAX]; /* with what they point to until the program ends */
    static double *durations;
    int given_count = 0, result = EDGEWRIGHT_UNAVAILABLE;
    long repeat = 1, warm = 0, swaps = 0, connects = 0;
    uint32_t unwritten = 0; /* slots that do not hold the inputs yet */
    int in_place = 0;

    if (count < 3) return fprintf(stderr, "usage: example SOCKET MODEL [--repeat COUNT] [--warm COUNT] [--in-place] NAME:DIMxDIM=FILE...\n"), 2;
    for (int index = 3; index < count; index++) {
        if (!strcmp(arguments[index], "--repeat") && index + 1 < count) repeat = strtol(arguments[++index], NULL, 10);
        else if (!strcmp(arguments[index], "--warm") && index + 1 < count) warm = strtol(arguments[++index], NULL, 10);
        else if (!strcmp(arguments[index], "--in-place")) in_place = 1;
        else if (given_count == EDGEWRIGHT_TENSORS_MAX || !read_given(arguments[index], &given[given_count++]))
            return fprintf(stderr, "not an input, or its file cannot be read: %s\n", arguments[index]), 2;
    }
    if (repeat < 1 || warm < 0) return fprintf(stderr, "--repeat takes a number from 1, --warm one from 0\n"), 2;
    durations = malloc(sizeof(double) * (size_t)(repeat > 0 ? repeat : 1));
    if (!durations) return 2;
    for (long number = -warm; number < repeat; number++) {
        double began_us = now_us(), ends_at_us = began_us + TIMEOUT_MS * 1e3;
        uint32_t generation = channel.generation;
        do { /* a prediction has no side effect: whatever breaks on the way is asked again until time is up */
            int reconnects = result == EDGEWRIGHT_UNAVAILABLE, reopens = result == EDGEWRIGHT_OPEN_AGAIN;
            if (reconnects || reopens) {
                connects += reconnects;
                result = ready(&client, &channel, arguments[1], arguments[2], given, given_count);
                if (!result) generation = channel.generation;
                unwritten = channel.slot_count;
            }
            if (!result && (!in_place || unwritten) && !put(&channel, given, given_count))
                return fprintf(stderr, "the model takes other inputs than are given\n"), 3;
            unwritten -= unwritten > 0;
            if (!result) result = edgewright_infer(&client, &channel, TIMEOUT_MS * 1000);
            if (result == EDGEWRIGHT_UNAVAILABLE) nanosleep(&(struct timespec){0, 5000000}, NULL);
        } while ((result == EDGEWRIGHT_UNAVAILABLE || result == EDGEWRIGHT_OPEN_AGAIN) && now_us() < ends_at_us);
        if (result) break;
        swaps += generation != channel.generation;
        if (number >= 0) durations[number] = now_us() - began_us;
    }
    if (result) {
        fprintf(stderr, "%s: %s %s\n", client.error.code, client.error.message, client.error.remedy);
        return 10 + result;
    }
    print_answer(&channel);
    if (repeat > 1) {
        qsort(durations, (size_t)repeat, sizeof *durations, by_size);
        printf("asked %ld times: p50 %.2f us, p99 %.2f us, %ld swaps seen, connected %ld times\n", repeat,
               durations[repeat / 2], durations[repeat * 99 / 100], swaps, connects);
    }
    edgewright_close_channel(&client, &channel);
    edgewright_close(&client);
    return 0;
}
