/*
 * Generates text on a Cortex-M7 (QEMU's mps2-an500) from a file in flash: no operating system, no C library, no heap.
 *
 *   -DMODEL="\"FILE.samara\"" -DRAM_BYTES=N   the file, and the RAM that it needs (samara export and examples/generate.c tell)
 *   -DTRAINING                               learns a line by heart first
 *   -DASSIGNMENT                             solves an assignment instead, without a file
 */
#include "common.h"

/* Start-up: the first words of flash are the stack pointer and the handlers. */

extern uint32_t stack_end[], stack_start[], data_in_flash[], data_start[], data_end[], bss_start[], bss_end[];

#define PAINT 0xcccccccc

int main(void);
void reset(void);
void fault(void);

/* An operation of the debugger, or the emulator in its place. */
static uint32_t semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void leave(int code)
{
    const uint32_t block[2] = { 0x20026, (uint32_t)code };
    semihosting(0x20, block);
    for (;;)
        ;
}

static void say(const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        semihosting(0x03, (const uint8_t *)bytes + i);
}

void fault(void)
{
    say_text("fault\n");
    leave(1);
}

void reset(void)
{
    /* Floating-point unit: full access to coprocessors 10 and 11. */
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
    __asm__ volatile("dsb\n isb" ::: "memory");
    volatile uint32_t *to = data_start;
    for (const uint32_t *from = data_in_flash; to < data_end; to++, from++)
        *to = *from;
    for (to = bss_start; to < bss_end; to++)
        *to = 0;
    const uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (to = stack_end; to < top - 16; to++)
        *to = PAINT;
    leave(main());
}

static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors __attribute__((section(".vectors"), used)) = {
    stack_start,
    { reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault },
};

static size_t stack_used(void)
{
    const volatile uint32_t *deepest = stack_end;
    while (deepest < stack_start && *deepest == PAINT)
        deepest++;
    return (size_t)((const uint8_t *)stack_start - (const volatile uint8_t *)deepest);
}

#ifdef ASSIGNMENT

int main(void)
{
    static const volatile float costs[3][4] = { { 4, 1, 3, 2 }, { 2, 0, 5, 3 }, { 3, 2, 2, 9 } };
    static float copy[12];
    static uint32_t workspace[64], columns[3];
    for (size_t i = 0; i < 12; i++)
        copy[i] = costs[i / 4][i % 4];
    if (samara_assign_workspace_bytes(3, 4) > sizeof workspace)
        return 1;
    if (failed("samara_assign_f32", samara_assign_f32(3, 4, copy, workspace, sizeof workspace, columns)))
        return 1;
    for (size_t row = 0; row < 3; row++)
        say_number("column", columns[row], 10);
    say_number("stack", stack_used(), 10);
    return 0;
}

#elif defined(MODEL)

/* The file as it is, at a multiple of 64 bytes. */
__asm__(".section .model, \"a\"\n.balign 64\nmodel:\n.incbin \"" MODEL "\"\nmodel_end:\n.previous\n");
extern const uint8_t model[], model_end[];

int main(void)
{
    static _Alignas(SAMARA_SESSION_ALIGN) unsigned char memory[SAMARA_SESSION_WORDS * sizeof(void *)];
    static float ram[RAM_BYTES / sizeof(float)];
    SamaraSession *session;
    if (failed("samara_open", OPEN(memory, sizeof memory, model, (size_t)(model_end - model), &session)))
        return 1;
    if (failed("samara_start", samara_start(session, ram, sizeof ram)))
        return 1;
#ifdef TRAINING
    if (learn(session, LESSON, LESSONS))
        return 1;
#endif
    if (generate(session, PROMPT, NEW_TOKENS, SEED))
        return 1;
    say_number("session_bytes", samara_session_bytes(), 10);
    say_number("stack", stack_used(), 10);
    say_number("hash", hash, 16);
    return 0;
}

#else

/* Start-up and printing alone: what the others take besides is the engine and what they do with it. */
int main(void)
{
    say_number("stack", stack_used(), 10);
    volatile SamaraStatus status = SAMARA_STATUS_OK;
    volatile uint64_t nothing = hash;
    say_number("nothing", nothing, 16);
    return failed("nothing", status);
}

#endif
