/* As much JSON as the fast path's control messages need: find a member, walk a list, read a text or a whole number.
 *
 * Values are ranges of the message itself; nothing is copied or allocated. What is not there, or is not JSON, is a value
 * whose `at` is NULL, and every function takes that and says no. Depth is bounded, so that no message ends the stack.
 */
#ifndef EDGEWRIGHT_JSON_H
#define EDGEWRIGHT_JSON_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define JSON_DEPTH_MAX 16

struct json {
    const char *at, *end;
};

static const struct json JSON_NOTHING = {NULL, NULL};

static const char *json_blank(const char *at, const char *end) {
    while (at && at < end && strchr(" \t\r\n", *at)) at++;
    return at;
}

/* The end of a text that begins at `at`, its closing quote included; NULL if it is not closed. */
static const char *json_text_end(const char *at, const char *end) {
    for (at++; at < end; at++) {
        if (*at == '\\') at++;
        else if (*at == '"') return at + 1;
    }
    return NULL;
}

static const char *json_value_end(const char *at, const char *end) {
    int depth = 0;
    while (at && at < end) {
        if (*at == '"') {
            at = json_text_end(at, end);
        } else if (*at == '{' || *at == '[') {
            if (++depth > JSON_DEPTH_MAX) return NULL;
            at++;
            continue;
        } else if (*at == '}' || *at == ']') {
            if (--depth < 0) return at;
            at++;
        } else if (*at == ',' || *at == ':' || *at == ' ') {
            if (!depth) return at;
            at++;
            continue;
        } else {
            const char *began = at;
            while (at < end && !strchr(",:]} ", *at)) at++;
            if (at == began) return NULL; /* a zero byte */
        }
        if (!depth) return at;
    }
    return NULL;
}

static struct json json_value(const char *at, const char *end) {
    at = json_blank(at, end);
    const char *after = at && at < end ? json_value_end(at, end) : NULL;
    return after && after > at ? (struct json){at, after} : JSON_NOTHING;
}

/* The first element of a list; JSON_NOTHING for an empty one. */
static struct json json_first(struct json list) {
    const char *at = json_blank(list.at, list.end);
    if (!at || at >= list.end || *at != '[') return JSON_NOTHING;
    at = json_blank(at + 1, list.end);
    return at < list.end && *at != ']' ? json_value(at, list.end) : JSON_NOTHING;
}

static struct json json_next(struct json element, struct json list) {
    const char *at = json_blank(element.end, list.end);
    return at && at < list.end && *at == ',' ? json_value(at + 1, list.end) : JSON_NOTHING;
}

/* A member of an object, by a name without escapes. */
static struct json json_member(struct json object, const char *name) {
    size_t length = strlen(name);
    const char *at = json_blank(object.at, object.end);
    if (!at || at >= object.end || *at != '{') return JSON_NOTHING;
    for (at = json_blank(at + 1, object.end); at && at < object.end && *at == '"';) {
        const char *key = at + 1, *key_end = json_text_end(at, object.end);
        at = key_end ? json_blank(key_end, object.end) : NULL;
        if (!at || at >= object.end || *at != ':') return JSON_NOTHING;
        struct json value = json_value(at + 1, object.end);
        if (!value.at) return JSON_NOTHING;
        if ((size_t)(key_end - 1 - key) == length && !memcmp(key, name, length)) return value;
        at = json_blank(value.end, object.end);
        if (at < object.end && *at == ',') at = json_blank(at + 1, object.end);
    }
    return JSON_NOTHING;
}

static int json_integer(struct json value, int64_t *number) {
    char digits[24], *after;
    size_t length = value.at ? (size_t)(value.end - value.at) : 0;
    if (!length || length >= sizeof digits) return 0;
    memcpy(digits, value.at, length);
    digits[length] = 0;
    *number = strtoll(digits, &after, 10);
    return after == digits + length;
}

static unsigned json_hex(const char *at) {
    unsigned code = 0;
    for (int index = 0; index < 4; index++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *found = at[index] ? strchr(digits, at[index]) : NULL;
        code = code * 16 + (found ? (unsigned)(found - digits) % 16 : 0);
    }
    return code;
}

/* Copy a text, unescaped and cut to fit; 0 if the value is none. Beyond Latin-1, an escaped character becomes '?'. */
static int json_text(struct json value, char *text, size_t size) {
    if (!value.at || value.end - value.at < 2 || *value.at != '"' || !size) return 0;
    size_t used = 0;
    for (const char *at = value.at + 1; at < value.end - 1 && used + 3 < size; at++) {
        unsigned code = (unsigned char)*at;
        if (*at == '\\' && ++at < value.end - 1) {
            const char *escapes = "nrtbf", *found = strchr(escapes, *at);
            code = found ? (unsigned char)"\n\r\t\b\f"[found - escapes] : (unsigned char)*at;
            if (*at == 'u' && value.end - 1 - at > 4) {
                code = json_hex(at + 1);
                at += 4;
                if (code > 0xff) code = '?';
                if (code > 0x7f) text[used++] = (char)(0xc0 | code >> 6), code = 0x80 | (code & 0x3f);
            }
        }
        text[used++] = (char)code;
    }
    text[used] = 0;
    return 1;
}

#endif
