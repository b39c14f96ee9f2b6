/* Shared memory that a child of fork() does not share with its parent, and connections that it knows are not its own.
 *
 * The failure this exists for: parent and child on one connection. Both write their inputs into the same memory and ask
 * with the same sequence numbers, so either may read the answer to the other's request, and nothing tells. So in the
 * child, before fork() returns, every mapping becomes private memory of its own at the same address (pointers stay good;
 * what they point to is zero), and every connection made so far is the parent's. Costs a request one comparison.
 *
 * vfork(), posix_spawn() and exec() leave nothing behind that could go wrong: descriptors are closed on exec.
 */
#ifndef EDGEWRIGHT_FORKS_H
#define EDGEWRIGHT_FORKS_H

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Lies in a page of its own before the shared memory, where it is the child's own copy after a fork. */
struct forks_mapping {
    struct forks_mapping *before, *after;
    size_t bytes;
};

static struct {
    pthread_once_t once;
    pthread_mutex_t lock;
    int problem; /* errno of a guard that could not be set up */
    size_t page_bytes;
    struct forks_mapping *mappings;
    uint32_t connections, foreign; /* made so far in this process and its parents; the last one of the parents' */
} forks = {PTHREAD_ONCE_INIT, PTHREAD_MUTEX_INITIALIZER, 0, 0, NULL, 0, 0};

static void forks_prepare(void) { pthread_mutex_lock(&forks.lock); }

static void forks_in_parent(void) { pthread_mutex_unlock(&forks.lock); }

static void forks_in_child(void) {
    forks.foreign = forks.connections;
    for (struct forks_mapping *mapping = forks.mappings; mapping; mapping = mapping->after) {
        void *memory = (uint8_t *)mapping + forks.page_bytes;
        int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        if (mmap(memory, mapping->bytes, PROT_READ | PROT_WRITE, how, -1, 0) == MAP_FAILED)
            mprotect(memory, mapping->bytes, PROT_NONE); /* no memory: rather a child that dies than a parent garbled */
    }
    pthread_mutex_unlock(&forks.lock);
}

static void forks_set_up(void) {
    forks.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    forks.problem = pthread_atfork(forks_prepare, forks_in_parent, forks_in_child);
}

/* A number for a new connection, never 0; 0 with errno set if forks cannot be guarded against. */
static uint32_t forks_new_connection(void) {
    pthread_once(&forks.once, forks_set_up);
    if (forks.problem) return errno = forks.problem, 0;
    pthread_mutex_lock(&forks.lock);
    uint32_t number = ++forks.connections;
    pthread_mutex_unlock(&forks.lock);
    return number;
}

/* Whether a connection was made before this process was forked. */
static int forks_is_foreign(uint32_t connection) { return connection <= forks.foreign; }

/* Map a descriptor's memory; NULL with errno set if that is not possible. */
static uint8_t *forks_map(int descriptor, size_t bytes) {
    uint8_t *room = mmap(NULL, forks.page_bytes + bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return NULL;
    uint8_t *memory = room + forks.page_bytes;
    if (mmap(memory, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED) {
        int why = errno;
        munmap(room, forks.page_bytes + bytes);
        return errno = why, NULL;
    }
    struct forks_mapping *mapping = (struct forks_mapping *)(void *)room;
    pthread_mutex_lock(&forks.lock);
    *mapping = (struct forks_mapping){NULL, forks.mappings, bytes};
    if (forks.mappings) forks.mappings->before = mapping;
    forks.mappings = mapping;
    pthread_mutex_unlock(&forks.lock);
    return memory;
}

static void forks_unmap(uint8_t *memory) {
    struct forks_mapping *mapping = (struct forks_mapping *)(void *)(memory - forks.page_bytes);
    pthread_mutex_lock(&forks.lock);
    if (mapping->before) mapping->before->after = mapping->after;
    else forks.mappings = mapping->after;
    if (mapping->after) mapping->after->before = mapping->before;
    pthread_mutex_unlock(&forks.lock);
    munmap(mapping, forks.page_bytes + mapping->bytes);
}

#endif
