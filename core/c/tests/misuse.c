/*
 * What a caller can get wrong, and that training can be interrupted: misuse INFERENCE.samara [TRAINING.samara]
 * Run under an address sanitizer or valgrind, it also shows that nothing outside of what is lent is touched.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../examples/file.h"
#include "../samara.h"

static int wrong;

#define EXPECT(status, call)                                                                                            \
    do {                                                                                                                \
        SamaraStatus found = (call);                                                                                    \
        if (found != (status)) {                                                                                        \
            fprintf(stderr, "line %d: %s: expected %s\n", __LINE__, samara_status_text(found), samara_status_text(status)); \
            wrong++;                                                                                                    \
        }                                                                                                               \
    } while (0)

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition); \
            wrong++;                                                        \
        }                                                                   \
    } while (0)

#define OK SAMARA_STATUS_OK
#define WORDS SAMARA_SESSION_WORDS * sizeof(void *)

typedef struct {
    _Alignas(SAMARA_SESSION_ALIGN) unsigned char bytes[WORDS + 8];
} Memory;

static void texts(void)
{
    CHECK(strlen(samara_version()) >= 5);
    for (int32_t status = OK; status <= SAMARA_STATUS_INFEASIBLE; status++)
        CHECK(strcmp(samara_status_text(status), samara_status_text(-1)) != 0);
    CHECK(samara_status_text(INT32_MIN) != NULL && samara_status_text(SAMARA_STATUS_INFEASIBLE + 1) == samara_status_text(-1));
}

/* Every function refuses what is no session. */
static void no_session(SamaraSession *session, SamaraStatus status)
{
    size_t n;
    uint32_t token, *steps;
    float *values, loss;
    const float *losses;
    const uint8_t *bytes;
    uint8_t room[4];
    int32_t tokens[1] = { 0 };
    SamaraInfo info;
    SamaraHyper hyper = { 0 };
    EXPECT(status, samara_ram_bytes(session, &n));
    EXPECT(status, samara_info(session, &info));
    EXPECT(status, samara_start(session, &n, sizeof n));
    EXPECT(status, samara_feed(session, 0, NULL, NULL));
    EXPECT(status, samara_choose(session, NULL, 0, NULL, 0, &token));
    EXPECT(status, samara_restart(session));
    EXPECT(status, samara_position(session, &n));
    EXPECT(status, samara_train(session, tokens, tokens, 1, &hyper, &loss));
    EXPECT(status, samara_evaluate(session, tokens, tokens, 1, &losses));
    EXPECT(status, samara_trainable(session, &values, &n));
    EXPECT(status, samara_optimizer(session, &values, &n, &steps));
    EXPECT(status, samara_encode_scratch_bytes(session, "a", 1, &n));
    EXPECT(status, samara_encode(session, "a", 1, NULL, 0, &token, 1, &n));
    EXPECT(status, samara_token_bytes(session, 0, room, &bytes, &n));
}

static void opening(unsigned char *program, size_t bytes)
{
    static Memory memory, copy;
    SamaraSession *session = NULL;
    void *at = memory.bytes;
    CHECK(samara_session_bytes() <= WORDS && samara_session_align() <= SAMARA_SESSION_ALIGN);
    no_session(NULL, SAMARA_STATUS_NULL);
    no_session((SamaraSession *)(memory.bytes + 1), SAMARA_STATUS_ALIGNMENT);
    no_session((SamaraSession *)memory.bytes, SAMARA_STATUS_SESSION);
    EXPECT(SAMARA_STATUS_NULL, samara_open(NULL, WORDS, program, bytes, &session));
    EXPECT(SAMARA_STATUS_NULL, samara_open(at, WORDS, NULL, bytes, &session));
    EXPECT(SAMARA_STATUS_NULL, samara_open(at, WORDS, program, bytes, NULL));
    EXPECT(SAMARA_STATUS_FILE_DAMAGED, samara_open(at, WORDS, NULL, 0, &session));
    EXPECT(SAMARA_STATUS_ALIGNMENT, samara_open(memory.bytes + 4, WORDS, program, bytes, &session));
    EXPECT(SAMARA_STATUS_ALIGNMENT, samara_open(at, WORDS, program + 4, bytes - 4, &session));
    EXPECT(SAMARA_STATUS_ARGUMENT, samara_open(at, WORDS, program, SIZE_MAX, &session));
    EXPECT(SAMARA_STATUS_ROOM, samara_open(at, samara_session_bytes() - 1, program, bytes, &session));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_open(program, bytes, program, bytes, &session));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_open(at, WORDS, program, bytes, (SamaraSession **)(memory.bytes + 8)));
    EXPECT(SAMARA_STATUS_FILE_DAMAGED, samara_open(at, WORDS, program, bytes - 1, &session));
    EXPECT(SAMARA_STATUS_FILE_DAMAGED, samara_open(at, WORDS, program, 8, &session));
    program[bytes / 2] ^= 1;
    EXPECT(SAMARA_STATUS_FILE_DAMAGED, samara_open(at, WORDS, program, bytes, &session));
    program[bytes / 2] ^= 1;
    program[0] ^= 1;
    EXPECT(SAMARA_STATUS_FILE_FORMAT, samara_open(at, WORDS, program, bytes, &session));
    program[0] ^= 1;
    program[8] += 1;
    EXPECT(SAMARA_STATUS_FILE_VERSION, samara_open(at, WORDS, program, bytes, &session));
    program[8] -= 1;
    CHECK(session == NULL);
    EXPECT(OK, samara_open(at, samara_session_bytes(), program, bytes, &session));
    CHECK((void *)session == at);
    memcpy(&copy, &memory, sizeof copy);
    no_session((SamaraSession *)copy.bytes, SAMARA_STATUS_SESSION);
    EXPECT(SAMARA_STATUS_ROOM, samara_open(at, 0, program, bytes, &session));
    program[0] ^= 1;
    EXPECT(SAMARA_STATUS_FILE_FORMAT, samara_open(at, WORDS, program, bytes, &session));
    program[0] ^= 1;
    no_session(session, SAMARA_STATUS_SESSION);
}

static void running(const void *program, size_t bytes)
{
    static Memory memory;
    SamaraSession *session;
    size_t ram_bytes, n = 77;
    uint32_t token = 77;
    float *logits, loss;
    SamaraInfo info;
    SamaraHyper hyper = { 0 };
    const float *losses;
    EXPECT(OK, samara_open(memory.bytes, WORDS, program, bytes, &session));
    EXPECT(OK, samara_ram_bytes(session, &ram_bytes));
    EXPECT(SAMARA_STATUS_NULL, samara_ram_bytes(session, NULL));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_ram_bytes(session, (size_t *)memory.bytes));
    EXPECT(OK, samara_info(session, &info));
    CHECK(info.vocab_size > 0 && info.context > 0 && info.train_tokens == 0);
    EXPECT(SAMARA_STATUS_NOT_STARTED, samara_feed(session, 0, NULL, NULL));
    EXPECT(SAMARA_STATUS_NOT_STARTED, samara_choose(session, NULL, 0, NULL, 0, &token));
    EXPECT(SAMARA_STATUS_NOT_STARTED, samara_restart(session));
    EXPECT(SAMARA_STATUS_NOT_STARTED, samara_position(session, &n));
    char *ram = malloc(ram_bytes);
    EXPECT(SAMARA_STATUS_NULL, samara_start(session, NULL, ram_bytes));
    EXPECT(SAMARA_STATUS_ROOM, samara_start(session, ram, ram_bytes - 1));
    EXPECT(SAMARA_STATUS_ALIGNMENT, samara_start(session, ram + 1, ram_bytes));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_start(session, memory.bytes, ram_bytes));
    CHECK(n == 77 && token == 77);
    EXPECT(OK, samara_start(session, ram, ram_bytes));

    EXPECT(SAMARA_STATUS_NO_LOGITS, samara_choose(session, NULL, 0, NULL, 0, &token));
    EXPECT(SAMARA_STATUS_TOKENS, samara_feed(session, (uint32_t)info.vocab_size, NULL, NULL));
    EXPECT(SAMARA_STATUS_TOKENS, samara_feed(session, UINT32_MAX, NULL, NULL));
    EXPECT(OK, samara_feed(session, 0, &logits, &n));
    CHECK(n == info.vocab_size && isfinite(logits[0]) && (char *)logits >= ram && (char *)(logits + n) <= ram + ram_bytes);
    EXPECT(SAMARA_STATUS_ALIGNMENT, samara_feed(session, 0, (float **)((char *)&logits + 1), NULL));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_feed(session, 0, NULL, (size_t *)logits));
    EXPECT(OK, samara_position(session, &n));
    CHECK(n == 1);

    SamaraSampling sampling = { 1.0f, 5, 0.9f, 0.0f };
    uint32_t *order = malloc(info.vocab_size * sizeof *order);
    EXPECT(SAMARA_STATUS_ROOM, samara_choose(session, &sampling, 0, order, info.vocab_size - 1, &token));
    EXPECT(SAMARA_STATUS_NULL, samara_choose(session, &sampling, 0, NULL, info.vocab_size, &token));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_choose(session, &sampling, 0, (uint32_t *)ram, info.vocab_size, &token));
    EXPECT(SAMARA_STATUS_NULL, samara_choose(session, &sampling, 0, order, info.vocab_size, NULL));
    for (int i = 0; i < 6; i++) {
        const float bad[6] = { NAN, INFINITY, -1.0f, 1.1f, NAN, -0.1f };
        SamaraSampling other = sampling;
        *(i < 3 ? &other.temperature : i < 5 ? &other.top_p : &other.min_p) = bad[i];
        EXPECT(SAMARA_STATUS_ARGUMENT, samara_choose(session, &other, 0, order, info.vocab_size, &token));
    }
    EXPECT(OK, samara_choose(session, &sampling, 0, order, info.vocab_size, &token));
    CHECK(token < info.vocab_size);
    EXPECT(SAMARA_STATUS_NO_LOGITS, samara_choose(session, &sampling, 0, order, info.vocab_size, &token));
    for (size_t i = 1; i < info.context; i++)
        EXPECT(OK, samara_feed(session, token, NULL, NULL));
    EXPECT(SAMARA_STATUS_CONTEXT_FULL, samara_feed(session, token, NULL, NULL));
    EXPECT(OK, samara_restart(session));
    EXPECT(SAMARA_STATUS_NO_LOGITS, samara_choose(session, NULL, 0, NULL, 0, &token));

    int32_t tokens[1] = { 0 };
    EXPECT(SAMARA_STATUS_NO_PROGRAM, samara_train(session, tokens, tokens, 1, &hyper, &loss));
    EXPECT(SAMARA_STATUS_NO_PROGRAM, samara_evaluate(session, tokens, tokens, 1, &losses));

    const char text[] = "ab ba abracadabra-abracadabra-abracadabra-abracadabra";
    const size_t text_bytes = sizeof text - 1;
    size_t scratch_bytes, count;
    uint32_t ids[sizeof text];
    EXPECT(OK, samara_encode_scratch_bytes(session, text, text_bytes, &scratch_bytes));
    void *scratch = scratch_bytes > 0 ? malloc(scratch_bytes) : NULL;
    EXPECT(SAMARA_STATUS_ROOM, samara_encode(session, text, text_bytes, scratch, scratch_bytes, NULL, 0, &count));
    if (scratch_bytes > 0)
        EXPECT(SAMARA_STATUS_ROOM, samara_encode(session, text, text_bytes, scratch, scratch_bytes - 1, NULL, 0, &count));
    EXPECT(SAMARA_STATUS_NULL, samara_encode(session, text, text_bytes, scratch, scratch_bytes, NULL, 1, &count));
    EXPECT(SAMARA_STATUS_NULL, samara_encode(session, NULL, 1, scratch, scratch_bytes, ids, 1, &count));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_encode(session, (char *)ids, text_bytes, scratch, scratch_bytes, ids, count, &n));
    EXPECT(OK, samara_encode(session, text, text_bytes, scratch, scratch_bytes, ids, count, &n));
    CHECK(n == count && count <= text_bytes);
    EXPECT(OK, samara_encode(session, NULL, 0, NULL, 0, NULL, 0, &n));
    CHECK(n == 0);
    char back[sizeof text];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t room[4];
        const uint8_t *piece;
        EXPECT(OK, samara_token_bytes(session, ids[i], room, &piece, &n));
        CHECK(length + n <= text_bytes);
        memcpy(back + length, piece, n);
        length += n;
    }
    CHECK(length == text_bytes && memcmp(back, text, text_bytes) == 0);
    uint8_t room[4];
    const uint8_t *piece;
    EXPECT(OK, samara_token_bytes(session, UINT32_MAX, room, &piece, &n));
    CHECK(n == 0);
    EXPECT(SAMARA_STATUS_NULL, samara_token_bytes(session, 0, NULL, &piece, &n));
    free(scratch);
    free(order);
    free(ram);
}

/* Four steps at once, and two, then saved, restored elsewhere, and two more: the same losses. */
static void training(const void *program, size_t bytes)
{
    static Memory memories[2];
    SamaraSession *sessions[2], *none;
    size_t ram_bytes = 0, n;
    SamaraInfo info;
    SamaraHyper hyper = { .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f };
    float *rams[2], losses[4], again, *to, *from;
    uint32_t *steps[2];
    EXPECT(SAMARA_STATUS_FILE_OPERATION, samara_open(memories[0].bytes, WORDS, program, bytes, &none));
    for (int i = 0; i < 2; i++) {
        EXPECT(OK, samara_open_training(memories[i].bytes, WORDS, program, bytes, &sessions[i]));
        EXPECT(OK, samara_ram_bytes(sessions[i], &ram_bytes));
        rams[i] = malloc(ram_bytes);
        EXPECT(OK, samara_start(sessions[i], rams[i], ram_bytes));
    }
    EXPECT(OK, samara_info(sessions[0], &info));
    const size_t count = info.train_tokens;
    CHECK(count > 0);
    int32_t *tokens = calloc(count + 1, sizeof *tokens), *targets = tokens + 1;
    for (size_t i = 0; i <= count; i++)
        tokens[i] = (int32_t)(i % info.vocab_size);
    EXPECT(SAMARA_STATUS_TOKENS, samara_train(sessions[0], tokens, targets, count - 1, &hyper, &again));
    EXPECT(SAMARA_STATUS_NULL, samara_train(sessions[0], tokens, NULL, count, &hyper, &again));
    EXPECT(SAMARA_STATUS_NULL, samara_train(sessions[0], tokens, targets, count, NULL, &again));
    EXPECT(SAMARA_STATUS_NULL, samara_train(sessions[0], tokens, targets, count, &hyper, NULL));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_train(sessions[0], (int32_t *)rams[0], targets, count, &hyper, &again));
    tokens[0] = (int32_t)info.vocab_size;
    EXPECT(SAMARA_STATUS_TOKENS, samara_train(sessions[0], tokens, targets, count, &hyper, &again));
    tokens[0] = 0;
    for (int step = 0; step < 4; step++) {
        EXPECT(OK, samara_train(sessions[0], tokens, targets, count, &hyper, &losses[step]));
        if (step != 1)
            continue;
        EXPECT(OK, samara_trainable(sessions[0], &from, &n));
        EXPECT(OK, samara_trainable(sessions[1], &to, &n));
        memcpy(to, from, n * sizeof *to);
        EXPECT(OK, samara_optimizer(sessions[0], &from, &n, &steps[0]));
        EXPECT(OK, samara_optimizer(sessions[1], &to, &n, &steps[1]));
        memcpy(to, from, n * sizeof *to);
        *steps[1] = *steps[0];
    }
    CHECK(losses[3] < losses[0]);
    for (int step = 2; step < 4; step++) {
        EXPECT(OK, samara_train(sessions[1], tokens, targets, count, &hyper, &again));
        CHECK(memcmp(&again, &losses[step], sizeof again) == 0);
    }
    if (info.evaluate_tokens == count) {
        const float *each;
        EXPECT(OK, samara_evaluate(sessions[0], tokens, targets, count, &each));
        CHECK(isfinite(each[0]) && isfinite(each[count - 1]));
    }
    free(tokens);
    free(rams[0]);
    free(rams[1]);
}

static void assignment(void)
{
    float costs[6] = { 4, 1, 3, 2, 0, 5 };
    uint32_t columns[3] = { 77, 77, 77 };
    const size_t bytes = samara_assign_workspace_bytes(2, 3);
    void *workspace = malloc(bytes);
    CHECK(bytes == samara_assign_workspace_bytes(3, 2));
    EXPECT(OK, samara_assign_f32(2, 3, costs, workspace, bytes, columns));
    CHECK(columns[0] == 1 && columns[1] == 0 && columns[2] == 77);
    EXPECT(OK, samara_assign_f32(3, 2, costs, workspace, bytes, columns));
    CHECK(columns[0] == 1 && columns[1] == SAMARA_FREE && columns[2] == 0);
    EXPECT(OK, samara_assign_f32(0, 0, NULL, workspace, bytes, NULL));
    EXPECT(OK, samara_assign_f32(0, 3, NULL, workspace, bytes, NULL));
    EXPECT(SAMARA_STATUS_ROOM, samara_assign_f32(2, 3, costs, workspace, bytes - 1, columns));
    EXPECT(SAMARA_STATUS_NULL, samara_assign_f32(2, 3, NULL, workspace, bytes, columns));
    EXPECT(SAMARA_STATUS_NULL, samara_assign_f32(2, 3, costs, NULL, bytes, columns));
    EXPECT(SAMARA_STATUS_NULL, samara_assign_f32(2, 3, costs, workspace, bytes, NULL));
    EXPECT(SAMARA_STATUS_ALIGNMENT, samara_assign_f32(2, 3, (float *)((char *)costs + 1), workspace, bytes, columns));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_assign_f32(2, 3, costs, workspace, bytes, (uint32_t *)costs));
    EXPECT(SAMARA_STATUS_OVERLAP, samara_assign_f32(2, 3, workspace, workspace, bytes, columns));
    EXPECT(SAMARA_STATUS_ARGUMENT, samara_assign_f32(SIZE_MAX, SIZE_MAX, costs, workspace, SIZE_MAX, columns));
    EXPECT(SAMARA_STATUS_ARGUMENT, samara_assign_f32(SIZE_MAX / 2, 1, costs, workspace, SIZE_MAX, columns));
    costs[0] = NAN;
    EXPECT(SAMARA_STATUS_COSTS, samara_assign_f32(2, 3, costs, workspace, bytes, columns));
    costs[0] = costs[1] = costs[2] = INFINITY;
    EXPECT(SAMARA_STATUS_INFEASIBLE, samara_assign_f32(2, 3, costs, workspace, bytes, columns));
    free(workspace);
}

int main(int argc, char **argv)
{
    size_t bytes;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s INFERENCE.samara [TRAINING.samara]\n", argv[0]);
        return 2;
    }
    texts();
    assignment();
    for (int i = 1; i < argc; i++) {
        void *program = read_file(argv[i], &bytes);
        if (program == NULL) {
            perror(argv[i]);
            return 1;
        }
        if (i == 1) {
            opening(program, bytes);
            running(program, bytes);
        } else {
            training(program, bytes);
        }
        free(program);
    }
    return wrong > 0;
}
