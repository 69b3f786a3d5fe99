/*
 * Generates text on a desk: generate FILE.samara [PROMPT]
 *
 * With TRAINING defined it learns a line by heart first, for which the file needs a training program (`samara export --train last-block`).
 * The last lines are figures that examples/device.c prints as well.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common.h"
#include "file.h"

static void say(const void *bytes, size_t count)
{
    fwrite(bytes, 1, count, stdout);
}

int main(int argc, char **argv)
{
    static _Alignas(SAMARA_SESSION_ALIGN) unsigned char memory[SAMARA_SESSION_WORDS * sizeof(void *)];
    SamaraSession *session;
    size_t program_bytes, ram_bytes;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s FILE.samara [PROMPT]\n", argv[0]);
        return 2;
    }
    void *program = read_file(argv[1], &program_bytes);
    if (program == NULL) {
        perror(argv[1]);
        return 1;
    }
    if (failed("samara_open", OPEN(memory, sizeof memory, program, program_bytes, &session)))
        return 1;
    if (failed("samara_ram_bytes", samara_ram_bytes(session, &ram_bytes)))
        return 1;
    void *ram = malloc(ram_bytes);
    if (ram == NULL || failed("samara_start", samara_start(session, ram, ram_bytes)))
        return 1;
#ifdef TRAINING
    if (learn(session, LESSON, LESSONS))
        return 1;
#endif
    if (generate(session, argc > 2 ? argv[2] : PROMPT, NEW_TOKENS, SEED))
        return 1;
    say_number("session_bytes", samara_session_bytes(), 10);
    say_number("ram_bytes", ram_bytes, 10);
    say_number("hash", hash, 16);
    free(ram);
    free(program);
    return 0;
}
