/* What the examples for a desk and for a device have in common, so that their hashes can be compared. */
#ifndef COMMON_H
#define COMMON_H

#include "../samara.h"

/* Shows bytes of text; each example has its own. */
static void say(const void *bytes, size_t count);

static void say_text(const char *text)
{
    size_t count = 0;
    while (text[count] != '\0')
        count++;
    say(text, count);
}

static void say_number(const char *key, uint64_t value, unsigned base)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0);
    say_text(key);
    say_text(" ");
    say(digits + at, sizeof digits - at);
    say_text("\n");
}

/* Says what went wrong and gives 1, or 0. */
static int failed(const char *what, SamaraStatus status)
{
    if (status == SAMARA_STATUS_OK)
        return 0;
    say_text(what);
    say_text(": ");
    say_text(samara_status_text(status));
    say_text("\n");
    return 1;
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo), of everything that a model answers. */
static uint64_t hash = 0xcbf29ce484222325u;

static void add_to_hash(const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
}

#define MAX_TOKENS 512

/* The tokens of a text, at most MAX_TOKENS. */
static int encode(SamaraSession *session, const char *text, size_t text_bytes, uint32_t *tokens, size_t *count)
{
    static uint64_t scratch[128];
    return failed("samara_encode",
        samara_encode(session, text, text_bytes, scratch, sizeof scratch, tokens, MAX_TOKENS, count));
}

/* Writes a prompt and what the model makes of it. */
static inline int generate(SamaraSession *session, const char *prompt, size_t new_tokens, uint64_t seed)
{
    static uint32_t tokens[MAX_TOKENS];
    const SamaraSampling sampling = { .temperature = 0.8f, .top_k = 40, .top_p = 1.0f, .min_p = 0.0f };
    size_t prompt_bytes = 0, count = 0;
    while (prompt[prompt_bytes] != '\0')
        prompt_bytes++;
    if (encode(session, prompt, prompt_bytes, tokens, &count))
        return 1;
    say_text(prompt);
    for (size_t i = 0; i < count + new_tokens; i++) {
        uint32_t token;
        float *logits;
        size_t vocabulary;
        if (i < count) {
            token = tokens[i];
        } else {
            uint8_t room[4];
            const uint8_t *bytes;
            size_t byte_count;
            if (failed("samara_choose", samara_choose(session, &sampling, seed, NULL, 0, &token)))
                return 1;
            if (failed("samara_token_bytes", samara_token_bytes(session, token, room, &bytes, &byte_count)))
                return 1;
            add_to_hash(&token, sizeof token);
            say(bytes, byte_count);
        }
        SamaraStatus status = samara_feed(session, token, &logits, &vocabulary);
        if (status == SAMARA_STATUS_CONTEXT_FULL)
            break;
        if (failed("samara_feed", status))
            return 1;
        add_to_hash(logits, vocabulary * sizeof *logits);
    }
    say_text("\n");
    return 0;
}

/* Trains for some steps on a text that is repeated, and says how the loss fell. */
static inline int learn(SamaraSession *session, const char *text, unsigned steps)
{
    static uint32_t encoded[MAX_TOKENS];
    static int32_t tokens[MAX_TOKENS], targets[MAX_TOKENS];
    size_t text_bytes = 0, count = 0, moments_len = 0;
    float *moments, loss = 0.0f;
    uint32_t *step;
    SamaraInfo info;
    while (text[text_bytes] != '\0')
        text_bytes++;
    if (failed("samara_info", samara_info(session, &info)) || encode(session, text, text_bytes, encoded, &count))
        return 1;
    if (failed("samara_optimizer", samara_optimizer(session, &moments, &moments_len, &step)))
        return 1;
    if (count == 0 || info.train_tokens == 0 || info.train_tokens > MAX_TOKENS) {
        say_text("no training program, or one for more tokens than this example takes\n");
        return 1;
    }
    /* A program of AdamW has moments, one of plain SGD has none. */
    const SamaraHyper adamw = { .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f }, sgd = { .lr = 0.3f };
    for (size_t i = 0; i < info.train_tokens; i++) {
        tokens[i] = (int32_t)encoded[i % count];
        targets[i] = (int32_t)encoded[(i + 1) % count];
    }
    for (unsigned i = 0; i < steps; i++) {
        if (failed("samara_train",
                samara_train(session, tokens, targets, info.train_tokens, moments_len > 0 ? &adamw : &sgd, &loss)))
            return 1;
        add_to_hash(&loss, sizeof loss);
        if (i == 0)
            say_number("first_loss_in_thousandths", (uint64_t)(loss * 1000.0f), 10);
    }
    say_number("last_loss_in_thousandths", (uint64_t)(loss * 1000.0f), 10);
    return failed("samara_restart", samara_restart(session));
}

#define PROMPT "ROMEO:\n"
#define LESSON "the cat sat on the mat and the dog lay on the rug. "
#define LESSONS 50
#define NEW_TOKENS 100
#define SEED 1

#ifdef TRAINING
#define OPEN samara_open_training
#else
#define OPEN samara_open
#endif

#endif
