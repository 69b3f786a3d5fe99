/*
 * samara: inference and training of models in memory lent by the caller, and linear assignment. Nothing here allocates, panics or has global
 * state.
 *
 * Query the memory that a program needs, lend it, run:
 *
 *     static _Alignas(SAMARA_SESSION_ALIGN) unsigned char memory[SAMARA_SESSION_WORDS * sizeof(void *)];
 *     SamaraSession *session;
 *     samara_open(memory, sizeof memory, program, program_bytes, &session);
 *     samara_ram_bytes(session, &ram_bytes);
 *     samara_start(session, ram, ram_bytes);
 *     samara_feed(session, token, NULL, NULL);
 *     samara_choose(session, NULL, 0, NULL, 0, &token);
 *
 * Every function that can fail returns a SamaraStatus: SAMARA_STATUS_OK or an error. After an error results are not written, and the content of
 * buffers is undefined. samara_status_text explains a status and what to do about it.
 *
 * Rules for all functions:
 * - Functions check pointers for NULL and alignment, and buffers for overlap with the session's memory and RAM and with the call's other buffers.
 *   A pointer must point to as many elements as the call says, which cannot be checked. An empty buffer may be NULL.
 * - Program, memory and RAM belong to the session until its memory is used for something else; there is no close function. The program may be
 *   in flash and must not change; only functions of this header and pointers that they return may access memory and RAM.
 * - A session must not be moved or copied: functions refuse a copy.
 * - Memory for a session that was never opened must be zeroed, as static memory is.
 * - A pointer returned by a function is valid until the next call with the same session.
 * - Different sessions may be used at the same time, one session by one thread or interrupt at a time.
 * - The floating-point unit must be enabled before the first call (Cortex-M: CPACR), with rounding to nearest.
 *
 * Written by cbindgen from src/: `bash check.sh --renew`.
 */

#ifndef SAMARA_H
#define SAMARA_H

#include <stddef.h>
#include <stdint.h>

/**
 * The column of an unmatched row.
 */
#define SAMARA_FREE UINT32_MAX

/**
 * The most bytes of a session, in units of pointers, so that its memory can be static; samara_session_bytes gives the exact size.
 */
#define SAMARA_SESSION_WORDS 128

/**
 * Alignment of a session's memory in bytes.
 */
#define SAMARA_SESSION_ALIGN 8

/**
 * The result of a function: 0, or the kind of error.
 */
enum SamaraStatus
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * All went well.
     */
    SAMARA_STATUS_OK = 0,
    /**
     * A pointer is NULL: give an address, or a length of 0.
     */
    SAMARA_STATUS_NULL = 1,
    /**
     * A pointer is not aligned: to the size of its elements, a session's memory to SAMARA_SESSION_ALIGN, a program and scratch to 8 bytes.
     */
    SAMARA_STATUS_ALIGNMENT = 2,
    /**
     * Two buffers overlap, or a buffer overlaps the session's memory, RAM or program: lend memory of its own.
     */
    SAMARA_STATUS_OVERLAP = 3,
    /**
     * A buffer is too short: query its size with the function for it.
     */
    SAMARA_STATUS_ROOM = 4,
    /**
     * A value is outside of the range in its description.
     */
    SAMARA_STATUS_ARGUMENT = 5,
    /**
     * This is no session: open one, and do not move or copy its memory.
     */
    SAMARA_STATUS_SESSION = 6,
    /**
     * The session has no RAM yet: samara_start.
     */
    SAMARA_STATUS_NOT_STARTED = 7,
    /**
     * The program is not a file that `samara export` wrote.
     */
    SAMARA_STATUS_FILE_FORMAT = 8,
    /**
     * The file has another format version: convert an older one with `samara export --convert FILE --out FILE`, or update this library.
     */
    SAMARA_STATUS_FILE_VERSION = 9,
    /**
     * The file is cut off or damaged: copy or export it again.
     */
    SAMARA_STATUS_FILE_DAMAGED = 10,
    /**
     * The file holds an operation that was not linked: open it with samara_open_training, or export it with `--train none`.
     */
    SAMARA_STATUS_FILE_OPERATION = 11,
    /**
     * The file contradicts itself, or its plan has too little memory for this library's kernels: export it again with this version of samara.
     */
    SAMARA_STATUS_FILE_INVALID = 12,
    /**
     * The file has no program for this: export it with one (`--train` for training and evaluation).
     */
    SAMARA_STATUS_NO_PROGRAM = 13,
    /**
     * Token ids or targets that are not in the vocabulary, or whose count differs from SamaraInfo's.
     */
    SAMARA_STATUS_TOKENS = 14,
    /**
     * The sequence has reached the model's context length: samara_restart.
     */
    SAMARA_STATUS_CONTEXT_FULL = 15,
    /**
     * No logits to sample from: call samara_feed before every samara_choose.
     */
    SAMARA_STATUS_NO_LOGITS = 16,
    /**
     * The file has no tokenizer: export a folder that has one.
     */
    SAMARA_STATUS_NO_TOKENIZER = 17,
    /**
     * A byte or character of the text is not in the vocabulary, or the text is not UTF-8.
     */
    SAMARA_STATUS_TEXT = 18,
    /**
     * A cost is NaN or minus infinity.
     */
    SAMARA_STATUS_COSTS = 19,
    /**
     * Too many pairs are forbidden: not every row (or column, if there are fewer) can be matched.
     */
    SAMARA_STATUS_INFEASIBLE = 20,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum SamaraStatus SamaraStatus;
#else
typedef int32_t SamaraStatus;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A program file and its run-time state, in memory that the caller lends.
 */
typedef struct SamaraSession SamaraSession;

/**
 * Properties of a program file.
 */
typedef struct SamaraInfo {
    /**
     * Token ids are smaller than this; it is also the number of logits.
     */
    size_t vocab_size;
    /**
     * Tokens that a sequence can have.
     */
    size_t context;
    /**
     * Tokens of a step of training, 0 when the file has no such program.
     */
    size_t train_tokens;
    /**
     * Tokens of an evaluation, 0 when the file has no such program.
     */
    size_t evaluate_tokens;
    /**
     * The end-of-text token, UINT32_MAX when there is none.
     */
    uint32_t end_of_text;
} SamaraInfo;

/**
 * How the next token is drawn; the filters apply in this order.
 */
typedef struct SamaraSampling {
    /**
     * Logits are divided by it; 0 takes the largest one. Not negative.
     */
    float temperature;
    /**
     * Keeps the k largest logits; 0 keeps all.
     */
    uint32_t top_k;
    /**
     * Keeps the most probable tokens up to this cumulative probability; 1 keeps all. 0 to 1.
     */
    float top_p;
    /**
     * Keeps tokens whose probability is at least this fraction of the largest; 0 keeps all. 0 to 1.
     */
    float min_p;
} SamaraSampling;

/**
 * The hyper-parameters of a training step, named as in PyTorch. Plain SGD reads only lr; set the others to 0.
 */
typedef struct SamaraHyper {
    /**
     * Learning rate.
     */
    float lr;
    /**
     * AdamW: 0.9 if in doubt; the momentum of SGD.
     */
    float beta1;
    /**
     * AdamW: 0.999 if in doubt.
     */
    float beta2;
    /**
     * AdamW: 1e-8 if in doubt.
     */
    float eps;
    /**
     * Weight decay.
     */
    float weight_decay;
} SamaraHyper;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Bytes of workspace for an assignment of `rows` x `columns` costs, aligned to 4 bytes.
 */
size_t samara_assign_workspace_bytes(size_t rows, size_t columns);

/**
 * The pairs of rows and columns with the least total cost: every row gets one column, every column at most one row, or the reverse when there are
 * more rows than columns. `costs` is row-major; infinity forbids a pair. Writes the column of every row to `columns_of_rows`, SAMARA_FREE for none.
 * For the largest total, negate the costs.
 */
SamaraStatus samara_assign_f32(size_t rows,
                               size_t columns,
                               const float *costs,
                               void *workspace,
                               size_t workspace_bytes,
                               uint32_t *columns_of_rows);

/**
 * Bytes of memory for a session, without its RAM.
 */
size_t samara_session_bytes(void);

/**
 * Alignment of that memory: SAMARA_SESSION_ALIGN or less.
 */
size_t samara_session_align(void);

/**
 * Opens and checks a file that generates text, and creates the session in `memory`, whose old content is discarded. `program` must be aligned to 8
 * bytes. A file that also trains is refused: this function does not link the kernels of training.
 */
SamaraStatus samara_open(void *memory,
                         size_t memory_bytes,
                         const void *program,
                         size_t program_bytes,
                         struct SamaraSession **session);

/**
 * As samara_open, for files that also train and evaluate.
 */
SamaraStatus samara_open_training(void *memory,
                                  size_t memory_bytes,
                                  const void *program,
                                  size_t program_bytes,
                                  struct SamaraSession **session);

/**
 * Bytes of RAM that the session's programs need.
 */
SamaraStatus samara_ram_bytes(struct SamaraSession *session, size_t *bytes);

/**
 * The properties of the session's file.
 */
SamaraStatus samara_info(struct SamaraSession *session, struct SamaraInfo *info);

/**
 * Lends RAM to the session, aligned to 4 bytes, and clears it. Trainable parameters start with the values in the file. A second call starts over.
 */
SamaraStatus samara_start(struct SamaraSession *session,
                          void *ram,
                          size_t ram_bytes);

/**
 * Runs the next token of the sequence through the model. Returns the logits of its successor, SamaraInfo's vocab_size of them; `logits` and `count`
 * may be NULL.
 */
SamaraStatus samara_feed(struct SamaraSession *session,
                         uint32_t token,
                         float **logits,
                         size_t *count);

/**
 * Samples a token from the logits of the last samara_feed, which are consumed. With NULL for `sampling`: the most probable token. The same seed
 * gives the same sequence as `samara generate`. `order` is scratch of vocab_size elements when top_p is below 1; otherwise it may be NULL.
 */
SamaraStatus samara_choose(struct SamaraSession *session,
                           const struct SamaraSampling *sampling,
                           uint64_t seed,
                           uint32_t *order,
                           size_t order_len,
                           uint32_t *token);

/**
 * Starts a new sequence.
 */
SamaraStatus samara_restart(struct SamaraSession *session);

/**
 * Tokens of the sequence so far.
 */
SamaraStatus samara_position(struct SamaraSession *session, size_t *position);

/**
 * A training step on `count` tokens, SamaraInfo's train_tokens, with the successor of each (negative: none). Returns the mean loss before the step,
 * in nats. A sequence in progress would continue with keys and values of the old parameters: call samara_restart.
 */
SamaraStatus samara_train(struct SamaraSession *session,
                          const int32_t *tokens,
                          const int32_t *targets,
                          size_t count,
                          const struct SamaraHyper *hyper,
                          float *loss);

/**
 * The loss of the successor of each of `count` tokens, SamaraInfo's evaluate_tokens, in nats; 0 where the target is negative. Writes `count` losses.
 */
SamaraStatus samara_evaluate(struct SamaraSession *session,
                             const int32_t *tokens,
                             const int32_t *targets,
                             size_t count,
                             const float **losses);

/**
 * The trainable parameters: save them to keep what was learnt, and write them back after samara_start.
 */
SamaraStatus samara_trainable(struct SamaraSession *session, float **values, size_t *count);

/**
 * The optimizer's moments and its number of steps: if they are saved and written back as well, training resumes as if it had not been interrupted.
 */
SamaraStatus samara_optimizer(struct SamaraSession *session,
                              float **moments,
                              size_t *count,
                              uint32_t **steps);

/**
 * The meaning of a status and what to do about it, in English; for any value.
 */
const char *samara_status_text(int32_t status);

/**
 * The version of this library, as "0.1.0".
 */
const char *samara_version(void);

/**
 * Bytes of scratch that samara_encode needs for this text: 0 for byte and character tokenizers; for byte-level BPE about 16 per byte of the longest
 * word (32 for words of more than 32 bytes).
 */
SamaraStatus samara_encode_scratch_bytes(struct SamaraSession *session,
                                         const char *text,
                                         size_t text_bytes,
                                         size_t *bytes);

/**
 * Encodes a text, which need not be zero-terminated. Writes the number of tokens, at most one per byte, to `count`. When `tokens` is too short for
 * all (it may be NULL with `tokens_len` 0), the status is SAMARA_STATUS_ROOM, and `count` and the first tokens are still written. `scratch` must be
 * aligned to 8 bytes and have samara_encode_scratch_bytes bytes.
 */
SamaraStatus samara_encode(struct SamaraSession *session,
                           const char *text,
                           size_t text_bytes,
                           void *scratch,
                           size_t scratch_bytes,
                           uint32_t *tokens,
                           size_t tokens_len,
                           size_t *count);

/**
 * The bytes of a token, not zero-terminated; none for an id without text. They are in the program or in `room`, 4 bytes that the caller lends.
 */
SamaraStatus samara_token_bytes(struct SamaraSession *session,
                                uint32_t token,
                                uint8_t *room,
                                const uint8_t **bytes,
                                size_t *count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SAMARA_H */
