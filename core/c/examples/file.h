#ifndef FILE_H
#define FILE_H

#include <stdio.h>
#include <stdlib.h>

/* A file in memory that begins at a multiple of 64 bytes. */
static void *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        return NULL;
    long end = ftell(file);
    if (end < 0 || fseek(file, 0, SEEK_SET) != 0)
        return NULL;
    *bytes = (size_t)end;
    void *memory = aligned_alloc(64, (*bytes / 64 + 1) * 64);
    if (memory == NULL || fread(memory, 1, *bytes, file) != *bytes)
        return NULL;
    fclose(file);
    return memory;
}

#endif
