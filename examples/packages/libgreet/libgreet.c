#include "libgreet.h"

#include <stdio.h>

const char *greet_words(int hour)
{
    if (hour < 0 || hour > 23)
        return NULL;
    if (hour < 5)
        return "Good night";
    if (hour < 12)
        return "Good morning";
    if (hour < 18)
        return "Good day";
    return "Good evening";
}

int greet_write(char *buffer, size_t size, int hour, const char *name)
{
    const char *words = greet_words(hour);

    if (words == NULL)
        return -1;
    return snprintf(buffer, size, "%s, %s!", words, name != NULL ? name : "world");
}

const char *greet_version(void)
{
    return GREET_VERSION;
}
