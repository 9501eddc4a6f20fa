#ifndef LIBGREET_H
#define LIBGREET_H

#include <stddef.h>

/* The words to greet with at this hour (0 to 23), or NULL if there is no such hour. */
const char *greet_words(int hour);

/*
 * Writes the greeting of NAME at this hour into BUFFER, as snprintf would, and
 * returns its length; -1 if there is no such hour. A NAME of NULL greets the world.
 */
int greet_write(char *buffer, size_t size, int hour, const char *name);

/* The version of the library that the program runs with, like "1.2.0". */
const char *greet_version(void);

#endif
