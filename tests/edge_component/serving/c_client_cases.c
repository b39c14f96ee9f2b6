/* Cases of the C client that the example does not meet: c_client_cases CASE SOCKET. Says nothing and ends with 0, or says
 * what was not as it should be. The model is called scale and doubles a row of three. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "edgewright.h"

#define MUST(what) \
    do { if (!(what)) { fprintf(stderr, "%d: not so: %s (%s: %s)\n", __LINE__, #what, client.error.code, client.error.message); exit(1); } } while (0)

static struct edgewright_client client = {.socket = -1};
static struct edgewright_channel channel;

static void begin(const char *path) {
    MUST(!edgewright_connect(&client, path, 5000));
    MUST(!edgewright_open(&client, &channel, "scale", NULL, 0, 0));
}

static void fill(float value) {
    float *row = channel.inputs[0].data;
    row[0] = row[1] = row[2] = value;
}

static float answered(void) { return ((const float *)channel.outputs[0].data)[2]; }

static void ask(float value) {
    fill(value);
    MUST(!edgewright_infer(&client, &channel, 0));
    MUST(answered() == 2 * value);
}

/* Parent and child ask at once, each on its own; what the child writes before it has connected reaches nobody. */
static void forked(const char *path) {
    int status = -1;
    begin(path);
    ask(1);
    fill(5);
    pid_t child = fork();
    MUST(child >= 0);
    if (!child) {
        fill(9);
        MUST(answered() == 0);
        MUST(edgewright_infer(&client, &channel, 0) == EDGEWRIGHT_UNAVAILABLE);
        MUST(edgewright_infer(&client, &channel, 0) == EDGEWRIGHT_UNAVAILABLE);
        exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && !status);
    MUST(!edgewright_infer(&client, &channel, 0));
    MUST(answered() == 10);

    child = fork();
    MUST(child >= 0);
    if (!child) {
        edgewright_close(&client);
        MUST(!edgewright_connect(&client, path, 5000));
        MUST(edgewright_infer(&client, &channel, 0) == EDGEWRIGHT_OPEN_AGAIN);
        edgewright_close_channel(&client, &channel);
        MUST(!edgewright_open(&client, &channel, "scale", NULL, 0, 0));
    }
    for (int number = 0; number < 2000; number++) ask((float)(child ? number : -number));
    if (!child) exit(0);
    MUST(waitpid(child, &status, 0) == child && !status);
    ask(3);
}

/* More channels than a connection may have at once, one after another. */
static void reopened(const char *path) {
    begin(path);
    for (int number = 0; number < 100; number++) {
        edgewright_close_channel(&client, &channel);
        MUST(!edgewright_open(&client, &channel, "scale", NULL, 0, 0));
        ask((float)number);
    }
}

static void ignored(int number) { (void)number; }

/* Nobody answers, and a timer's signals interrupt every wait for that. */
static void interrupted(const char *path) {
    struct itimerval often = {{0, 20000}, {0, 20000}};
    struct sigaction action = {.sa_handler = ignored};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    MUST(edgewright_connect(&client, path, 200) == EDGEWRIGHT_LATE);
}

/* What was never connected or opened is not there, and closing it closes nothing of anybody's. */
static void untouched(const char *path) {
    struct edgewright_channel nothing = {0};
    (void)path;
    memset(&client, 0, sizeof client);
    edgewright_close_channel(&client, &nothing);
    MUST(edgewright_open(&client, &channel, "scale", NULL, 0, 0) == EDGEWRIGHT_UNAVAILABLE);
    edgewright_close(&client);
    MUST(dup(0) >= 0);
}

static volatile unsigned folded;

/* Read every byte. */
static void fold(const void *data, size_t size) {
    for (size_t at = 0; at < size; at++) folded += ((const unsigned char *)data)[at];
}

static size_t bytes_of(const struct edgewright_tensor *tensor) {
    size_t bytes = edgewright_item_bytes(tensor->dtype);
    for (int axis = 0; axis < tensor->rank; axis++) bytes *= tensor->dimensions[axis];
    MUST(bytes <= tensor->capacity_bytes);
    return bytes;
}

/* A runtime that lies: every answer is one of the results, nothing is touched that is not there, and no descriptor stays. */
static void lied_to(const char *path) {
    int results[EDGEWRIGHT_PROTOCOL + 1] = {0}, before = dup(0), after;
    MUST(before >= 0 && !close(before));
    for (int number = 0; number < 400; number++) {
        int result = edgewright_connect(&client, path, 50);
        if (!result) result = edgewright_open(&client, &channel, "scale", NULL, 0, 0);
        for (int request = 0; !result && request < 3; request++) {
            for (int input = 0; input < channel.input_count; input++)
                memset(channel.inputs[input].data, request, channel.inputs[input].capacity_bytes);
            result = edgewright_infer(&client, &channel, 0);
            for (int output = 0; !result && output < channel.output_count; output++)
                fold(channel.outputs[output].data, bytes_of(&channel.outputs[output]));
        }
        MUST(result >= EDGEWRIGHT_OK && result <= EDGEWRIGHT_PROTOCOL);
        results[result]++;
        edgewright_close_channel(&client, &channel);
        edgewright_close(&client);
    }
    after = dup(0);
    MUST(after == before && !close(after));
    MUST(results[EDGEWRIGHT_OK] && results[EDGEWRIGHT_PROTOCOL]);
}

int main(int count, char **arguments) {
    static const struct { const char *name; void (*run)(const char *path); } cases[] = {
        {"forked", forked}, {"reopened", reopened}, {"interrupted", interrupted}, {"untouched", untouched},
        {"lied_to", lied_to},
    };
    for (size_t index = 0; count == 3 && index < sizeof cases / sizeof *cases; index++)
        if (!strcmp(arguments[1], cases[index].name)) {
            cases[index].run(arguments[2]);
            edgewright_close_channel(&client, &channel);
            edgewright_close(&client);
            return 0;
        }
    return 2;
}
